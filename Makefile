# What a newcomer runs: `make demo`, `make test`. Every target sets up what it needs; all of it lands in .venv and build.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CORE   := CMakeLists.txt CMakePresets.json pyproject.toml $(wildcard cmake/*) $(shell find csrc -type f)
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Options of every configuration, as in CMAKE_FLAGS=-DFASTNCE_CUDA=OFF; test-cpp, test-cuda and asan take them.
CMAKE_FLAGS ?=
# The Python tests of test-python and test-cuda. The one that takes longest comes first.
TESTS       ?= tests/test_isa.py $(filter-out tests/test_isa.py,$(wildcard tests/test_*.py))
export CMAKE_FLAGS

.PHONY: help demo wheel test test-all test-large test-cpp test-python test-cuda test-cuda-seeds cuda cuda-report test-tf test-torch test-jax test-jax-versions lint format asan tidy bench bench-peers clean

help:
	@echo "make demo         train word embeddings on the text in examples/data"
	@echo "make test         C++ and Python tests (test-all: with PyTorch, JAX, TensorFlow and the sanitizers)"
	@echo "make test-large   tables larger than memory, in a sparse file of 40 GB"
	@echo "make lint         formatting, types, layer rules"
	@echo "make bench        native benchmark"
	@echo "make bench-peers  side by side with TensorFlow, PyTorch and JAX (each in a .venv-peers of its own)"
	@echo "make test-torch   fastnce.torch and PyTorch's tensors, in an environment of its own; test-jax, test-tf: likewise"
	@echo "make test-jax-versions  one wheel with the oldest and the newest jax"
	@echo "make format       fix formatting (test-cpp, test-python, test-cuda: parts of the tests; clean: remove all that was built)"
	@echo "make asan         tests under AddressSanitizer and UndefinedBehaviorSanitizer"
	@echo "make tidy         clang-tidy"

$(BIN)/python:
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)

# What builds the extension, from PyPI.
$(VENV)/.build-tools: pyproject.toml | $(BIN)/python
	@echo "installing build tools"
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --group build
	@touch $@

# What tests and lints it.
$(VENV)/.tools: $(VENV)/.build-tools
	@echo "installing test tools"
	@$(BIN)/python -m pip install --quiet --group test --group lint --group demo
	@touch $@

# The extension, editable: Python files are used in place. Incremental. test-cpp compiles the CUDA kernels wherever there
# is nvcc; without a GPU the extension gains nothing from them but minutes.
$(VENV)/.built: $(VENV)/.tools $(CORE) $(wildcard $(VENV)/.cuda)
	@tools/build_extension.sh $(BIN)/python build/ext $(if $(wildcard /dev/nvidia[0-9]*),AUTO,OFF) --editable
	@touch $@

# The same with just what a demo needs.
$(VENV)/.demo: $(VENV)/.build-tools $(CORE)
	@echo "installing NumPy, Matplotlib and tqdm"
	@$(BIN)/python -m pip install --quiet --group demo
	@tools/build_extension.sh $(BIN)/python build/ext OFF --editable
	@touch $@

demo: $(if $(wildcard $(VENV)/.built),$(VENV)/.built,$(VENV)/.demo)
	$(BIN)/python examples/word2vec.py --plot word2vec.png

# Ends with what was left out, if anything was.
test: test-cpp test-python test-cuda
	@cat build/release/skipped.txt 2>/dev/null || true

# All that there is, some of it too slow for every day.
test-all: export FASTNCE_TEST_ALL := 1
test-all: test test-torch test-jax test-jax-versions test-tf asan

# Tables larger than memory: a sparse file of 40 GB. Some minutes; no part of test-all.
test-large: $(VENV)/.built
	FASTNCE_TEST_LARGE=1 $(BIN)/python -m pytest tests/test_large.py

test-cpp: $(VENV)/.tools
	cmake --preset release $(CMAKE_FLAGS)
	cmake --build --preset release
	ctest --preset release -j 2

test-python: $(VENV)/.built
	tools/pytest_on_all_cores.sh $(BIN)/python -m pytest -- $(TESTS)

# On a device emulated on the host. The kernels themselves are compiled by test-cpp wherever there is nvcc.
test-cuda: $(VENV)/.tools
	tools/emulated.sh $(TESTS)

# The same on many schedules: some ten minutes for a hundred.
SEEDS ?= 100
test-cuda-seeds: $(VENV)/.tools
	tools/emulated_seeds.sh $(SEEDS)

# A compiler from PyPI. The extension is built anew with it the next time it is used.
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
	$(PEERS)/sampled_softmax.py
	$(PEERS)/train_step.py
	$(PEERS)/frontends.py
	$(PEERS)/sweep.py
	$(PEERS)/accuracy.py
	$(PEERS)/page.py --results build/peers --output build/peers

# Frameworks bring their own NumPy and protobuf: an environment for each. One wheel serves them all, without CUDA. The
# environment that builds the extension builds it, too: scikit-build-core clears a build directory that another
# installation of it comes to.
JAX-OLDEST     := 0.5.0
JAX-NEWEST     := 0.10.2
PACKAGES-tf    := tensorflow-cpu==2.21.0
PACKAGES-torch := torch==2.13.0 mypy
PACKAGES-jax   := jax==$(JAX-NEWEST) jaxlib==$(JAX-NEWEST)
TESTS-tf       := tests/test_tensorflow*.py
TESTS-torch    := tests/test_torch*.py tests/test_examples_torch.py tests/test_example_recommender.py
TESTS-jax      := tests/test_jax*.py
EMULATED-torch := tests/test_cuda_sharded.py tests/test_cuda_torch_optim.py
wheel: $(VENV)/.tools
	rm -rf build/ext/wheel
	tools/build_extension.sh $(BIN)/python build/ext OFF --wheel build/ext/wheel

.venv-tf/.tools .venv-torch/.tools .venv-jax/.tools: .venv-%/.tools: Makefile | $(BIN)/python
	test -x .venv-$*/bin/python || $(BIN)/python -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --no-compile $(PACKAGES-$*) pytest ml-dtypes
	@touch $@

test-tf test-torch test-jax: test-%: wheel .venv-%/.tools
	.venv-$*/bin/python -m pip uninstall --quiet --yes fastnce
	.venv-$*/bin/python -m pip install --quiet build/ext/wheel/fastnce-*.whl
	tools/pytest_on_all_cores.sh .venv-$*/bin/python -m pytest -- $(TESTS-$*) tests/test_dlpack.py \
		tests/test_element_types.py tests/test_examples.py tests/test_snippets.py tests/test_peers.py
	$(if $(EMULATED-$*),tools/emulated_python.sh .venv-$*/bin/python $(EMULATED-$*))

# One wheel, built in isolation with no jaxlib in sight, has to work with every jax since jax.ffi came, in 0.5.0.
test-jax-versions: $(VENV)/.tools
	rm -rf build/wheel
	$(BIN)/python -m pip wheel --no-deps --wheel-dir build/wheel --config-settings=cmake.define.FASTNCE_CUDA=OFF .
	tools/test_jax_version.sh $(PYTHON) $(JAX-OLDEST)
	tools/test_jax_version.sh $(PYTHON) $(JAX-NEWEST)

clean:
	rm -rf build $(VENV) $(addprefix .venv-,tf torch jax jax-versions peers)
