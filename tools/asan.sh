#!/usr/bin/env bash
# C++ tests and the core Python tests under AddressSanitizer and UndefinedBehaviorSanitizer.
#
# Python itself is not instrumented: the sanitizer's run-time library is preloaded, and leaks are not looked for, since
# the interpreter keeps memory until it exits.
set -euo pipefail
cd "$(dirname "$0")/.."

cmake --preset asan ${CMAKE_FLAGS:-} -DPython_EXECUTABLE="$PWD/.venv/bin/python" \
  -Dpybind11_DIR="$(.venv/bin/python -m pybind11 --cmakedir)"
cmake --build --preset asan
ctest --preset asan

package=build/asan/python
rm -rf "$package" && mkdir -p "$package"
cp -r python/fastnce "$package/"
cp build/asan/csrc/bindings/_core*.so "$package/fastnce/"

# -S: without site, so that the editable installation in .venv does not shadow the instrumented package.
export PYTHONPATH="$package:$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libstdc++.so)"
export LD_PRELOAD
.venv/bin/python -S -c 'import fastnce._core as core; assert "build/asan" in core.__file__, core.__file__'
.venv/bin/python -S -m pytest -q -p no:cacheprovider \
  tests/test_sampler.py tests/test_samplers.py tests/test_unigram.py tests/test_mixed_sampler.py tests/test_sampled_loss.py \
  tests/test_sampler_groups.py tests/test_loss_family.py tests/test_targets.py tests/test_groups.py tests/test_in_batch.py \
  tests/test_all_classes.py tests/test_parts.py tests/test_parts_all_classes.py tests/test_validation.py \
  tests/test_dlpack.py tests/test_optim.py tests/test_train_step.py tests/test_skip_gram.py tests/test_word2vec_text.py \
  tests/test_word2vec_training.py tests/test_word2vec_vectors.py
