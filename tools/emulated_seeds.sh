#!/usr/bin/env bash
# emulated_seeds.sh COUNT: the CUDA kernels on the emulated device under schedules 1 to COUNT. Ends at the first that fails.
set -euo pipefail
cd "$(dirname "$0")/.."
count=${1:?usage: tools/emulated_seeds.sh COUNT}

cmake --preset emulated ${CMAKE_FLAGS:-} -DPython_EXECUTABLE="$PWD/.venv/bin/python" \
  -Dpybind11_DIR="$(.venv/bin/python -m pybind11 --cmakedir)" >/dev/null
cmake --build --preset emulated --target fastnce_cuda_tests
# The mutants and the device's own tests set their seeds themselves.
seq 1 "$count" | xargs -P "$(nproc)" -I{} sh -c '
  FASTNCE_EMULATED_SEED={} build/emulated/tests/cpp/fastnce_cuda_tests --gtest_brief=1 \
    --gtest_filter=-CudaMutants*:EmulatedDevice* >build/emulated/seed-{}.log 2>&1 ||
    { cat build/emulated/seed-{}.log; echo "seed {} fails"; exit 255; }'
rm -f build/emulated/seed-*.log
echo "seeds 1 to $count pass"
