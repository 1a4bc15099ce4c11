#!/usr/bin/env bash
# The CUDA backend's tests on a device emulated on the host (tests/cpp/emulated_cuda): C++ and Python.
set -euo pipefail
cd "$(dirname "$0")/.."

cmake --preset emulated ${CMAKE_FLAGS:-} -DPython_EXECUTABLE="$PWD/.venv/bin/python" \
  -Dpybind11_DIR="$(.venv/bin/python -m pybind11 --cmakedir)"
cmake --build --preset emulated --target cuda_tests _core
ctest --preset emulated -R cuda -j "$(nproc)"

package=build/emulated/python
rm -rf "$package" && mkdir -p "$package"
cp -r python/fastnce "$package/"
cp build/emulated/csrc/bindings/_core*.so "$package/fastnce/"

# -S: without site, so that the editable installation in .venv does not shadow this package.
export PYTHONPATH="$package:$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
export FASTNCE_TEST_EMULATED_CUDA=1
.venv/bin/python -S -c 'import fastnce._core as core; assert "build/emulated" in core.__file__, core.__file__'

# The emulated device runs on one core: a process for each, with every n-th file.
mapfile -t files < <(grep -l cuda tests/test_*.py)
cores=$(nproc)
processes=()
for ((i = 0; i < cores && i < ${#files[@]}; ++i)); do
  own=()
  for ((f = i; f < ${#files[@]}; f += cores)); do own+=("${files[f]}"); done
  .venv/bin/python -S -m pytest -q -p no:cacheprovider -m cuda "${own[@]}" >"build/emulated/tests-$i.log" 2>&1 &
  processes+=($!)
done
failed=0
for i in "${!processes[@]}"; do
  wait "${processes[i]}" || [ $? = 5 ] || failed=1 # 5: no file of its has such tests
  cat "build/emulated/tests-$i.log"
done
exit "$failed"
