// Sums over the 32 threads of a warp.
#pragma once

#include "cuda/device.cuh"

namespace fastnce::cuda {

// The sum over the warp, in every thread.
template <class T>
FASTNCE_DEVICE T sum_over_warp(T value) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) value += shuffle_xor(value, distance);
  return value;
}

}  // namespace fastnce::cuda
