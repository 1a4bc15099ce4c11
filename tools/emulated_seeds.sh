#!/usr/bin/env bash
# emulated_seeds.sh COUNT: the CUDA kernels on the emulated device under schedules 1 to COUNT: the probes of the mutants,
# which come to every line of the kernels that a schedule can matter to; then all C++ tests under a tenth as many.
set -euo pipefail
cd "$(dirname "$0")/.."
count=${1:?usage: tools/emulated_seeds.sh COUNT}

tools/emulated_build.sh fastnce_cuda_tests
tests=build/emulated/tests/cpp/fastnce_cuda_tests
FASTNCE_EMULATED_SEEDS=$count $tests --gtest_brief=1 --gtest_filter=CudaMutants.AreNoLonger*
for ((seed = 2; seed <= count / 10 + 1; ++seed)); do
  echo "all tests, seed $seed"
  FASTNCE_EMULATED_SEED=$seed $tests --gtest_brief=1 --gtest_filter=-CudaMutants*:EmulatedDevice*
done
