# What a newcomer runs: `make demo`, `make test`. Every target sets up what it needs; all of it lands in .venv and build.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CORE   := CMakeLists.txt CMakePresets.json pyproject.toml $(wildcard cmake/*) $(shell find csrc -type f)
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help demo test test-cpp test-python test-cuda cuda cuda-report test-tf test-torch test-jax lint format asan tidy bench bench-peers clean

help:
	@echo "make demo         train word embeddings on the text in examples/data"
	@echo "make test         C++ and Python tests"
	@echo "make lint         formatting, types, layer rules"
	@echo "make bench        native benchmark"
	@echo "make bench-peers  side by side with TensorFlow, PyTorch and JAX (each in a .venv-peers of its own)"
	@echo "make test-torch   fastnce.torch and PyTorch's tensors, in an environment of its own; test-jax, test-tf: likewise"
	@echo "make format       fix formatting (test-cpp, test-python, test-cuda: parts of the tests; clean: remove all that was built)"
	@echo "make asan         tests under AddressSanitizer and UndefinedBehaviorSanitizer"
	@echo "make tidy         clang-tidy"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Build tools and test tools, from PyPI.
$(VENV)/.tools: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --group build --group test --group lint --group examples
	touch $@

# The extension, editable: Python files are used in place. Incremental.
$(VENV)/.built: $(VENV)/.tools $(CORE) $(wildcard $(VENV)/.cuda)
	$(BIN)/python -m pip install --quiet --no-build-isolation --config-settings=build-dir=build/ext --editable .
	touch $@

demo: $(VENV)/.built
	$(BIN)/python examples/word2vec.py

test: test-cpp test-python test-cuda

test-cpp: $(VENV)/.tools
	cmake --preset release
	cmake --build --preset release
	ctest --preset release

test-python: $(VENV)/.built
	$(BIN)/python -m pytest

# On a device emulated on the host. The kernels themselves are compiled by test-cpp wherever there is nvcc.
test-cuda: $(VENV)/.tools
	tools/emulated.sh

# A compiler from PyPI. The extension is built anew with it the next time it is wanted.
$(VENV)/.cuda: $(VENV)/.tools
	$(BIN)/python -m pip install --quiet --group cuda
	touch $@

cuda: $(VENV)/.cuda
	cmake --preset release -DFASTNCE_CUDA=ON
	cmake --build --preset release

cuda-report: cuda
	$(BIN)/python tools/cuda_resources.py build/release/libfastnce.a

lint: $(VENV)/.tools
	pre-commit run --all-files --show-diff-on-failure

format: $(VENV)/.tools
	ruff check --fix-only --quiet . && ruff format --quiet .
	git ls-files '*.cpp' '*.h' '*.cu' '*.cuh' | xargs clang-format -i

asan: $(VENV)/.tools
	tools/asan.sh

tidy: $(VENV)/.tools
	$(BIN)/python -m pip install --quiet clang-tidy
	cmake --preset tidy
	cmake --build --preset tidy

bench: $(VENV)/.tools
	cmake --preset release
	cmake --build --preset release
	@if [ -x build/release/bench/fastnce_bench ]; then build/release/bench/fastnce_bench; \
	else echo "fastnce_bench SKIPPED: Google Benchmark is neither installed nor could it be fetched"; fi

PEERS := $(BIN)/python bench/peers
bench-peers: $(VENV)/.built
	bench/peers/setup.sh
	$(BIN)/python -m pip install --quiet --group bench
	cmake --preset release
	cmake --build --preset release --target fastnce_limits
	$(PEERS)/run.py
	$(PEERS)/frontends.py
	$(PEERS)/sweep.py
	$(PEERS)/accuracy.py
	$(PEERS)/page.py --results build/peers --output build/peers

# Frameworks bring their own NumPy and protobuf: an environment for each. One build serves them in turn: without CUDA, to
# save time, and not isolated, so that jaxlib's headers are found.
PACKAGES-tf    := tensorflow-cpu==2.21.0
PACKAGES-torch := torch==2.13.0
PACKAGES-jax   := jax==0.10.2 jaxlib==0.10.2
TESTS-tf       := tests/test_tensorflow.py
TESTS-torch    := tests/test_torch*.py tests/test_examples_torch.py
TESTS-jax      := tests/test_jax*.py
test-tf test-torch test-jax: test-%: $(VENV)/.tools
	test -x .venv-$*/bin/python || $(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	.venv-$*/bin/python -m pip install --quiet --group build $(PACKAGES-$*) pytest ml-dtypes
	.venv-$*/bin/python -m pip install --quiet --no-build-isolation --config-settings=build-dir=build/ext-frameworks \
		--config-settings=cmake.define.FASTNCE_CUDA=OFF .
	.venv-$*/bin/python -m pytest -p no:cacheprovider tests/test_dlpack.py tests/test_element_types.py \
		tests/test_examples.py $(TESTS-$*)

clean:
	rm -rf build $(VENV) $(addprefix .venv-,tf torch jax peers)
