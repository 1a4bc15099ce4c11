#!/usr/bin/env bash
# The CUDA backend's tests on a device emulated on the host (tests/cpp/emulated_cuda): C++, then Python in these files:
#
#   tools/emulated.sh FILE...
set -euo pipefail
cd "$(dirname "$0")/.."
tools/emulated_build.sh cuda_tests _core
ctest --preset emulated -R cuda -j "$(nproc)"
mapfile -t files < <(grep -l cuda "$@")
tools/emulated_python.sh .venv/bin/python "${files[@]}"
