#!/usr/bin/env bash
# emulated_build.sh TARGET...: builds targets of the CUDA backend on a device emulated on the host, in build/emulated.
set -euo pipefail
cd "$(dirname "$0")/.."
cmake --preset emulated ${CMAKE_FLAGS:-} -DPython_EXECUTABLE="$PWD/.venv/bin/python" \
  -Dpybind11_DIR="$(.venv/bin/python -m pybind11 --cmakedir)"
cmake --build --preset emulated --target "$@"
