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
	@echo "make test-tf      compare with TensorFlow (in .venv-tf); test-torch, test-jax: their arrays, and fastnce.jax"
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
	$(PEERS)/sweep.py
	$(PEERS)/accuracy.py
	$(PEERS)/page.py --results build/peers --output build/peers

# Frameworks bring their own NumPy and protobuf: an environment for each.
PACKAGE-tf    := tensorflow-cpu
PACKAGE-torch := torch
test-tf test-torch: test-%: $(VENV)/.tools
	test -x .venv-$*/bin/python || $(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet $(PACKAGE-$*) pytest .
	.venv-$*/bin/python -m pytest tests/test_tensorflow.py tests/test_dlpack.py -p no:cacheprovider

# With jaxlib's headers, which an isolated build would not see; without CUDA, to save time.
test-jax: $(VENV)/.tools
	test -x .venv-jax/bin/python || $(PYTHON) -m venv .venv-jax
	.venv-jax/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	.venv-jax/bin/python -m pip install --quiet --group build jax==0.10.2 jaxlib==0.10.2 pytest ml-dtypes
	.venv-jax/bin/python -m pip install --quiet --no-build-isolation --config-settings=build-dir=build/ext-jax \
		--config-settings=cmake.define.FASTNCE_CUDA=OFF --config-settings=cmake.define.FASTNCE_JAX=ON .
	.venv-jax/bin/python -m pytest tests/test_tensorflow.py tests/test_dlpack.py tests/test_jax*.py -p no:cacheprovider

clean:
	rm -rf build $(VENV) $(addprefix .venv-,tf torch jax peers)
