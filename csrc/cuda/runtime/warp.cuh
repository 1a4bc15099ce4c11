// Sums over the 32 threads of a warp, and over those of a block.
#pragma once

#include "cuda/runtime/device.cuh"

namespace fastnce::cuda {

// The sum over the warp, in every thread.
template <class T>
FASTNCE_DEVICE T sum_over_warp(T value) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) value += shuffle_xor(value, distance);
  return value;
}

// The sum over the lanes up to and with this one.
template <class T>
FASTNCE_DEVICE T scan_over_warp(T value) {
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const T below = shuffle_up(value, distance);
    if (thread_index() % kWarp >= distance) value += below;
  }
  return value;
}

// The sum over all threads before this one, and over all. `warp_sums` is in shared memory, one for each warp.
struct BlockSum {
  int before;
  int total;
};
template <int kThreads>
FASTNCE_DEVICE BlockSum sum_over_block(int value, int* warp_sums) {
  constexpr int kWarps = kThreads / kWarp;
  static_assert(kWarps * kWarp == kThreads && kWarps <= kWarp);  // a lane for each warp's sum
  const int lane = thread_index() % kWarp;
  const int warp = thread_index() / kWarp;
  const int up_to = scan_over_warp(value);
  if (lane == kWarp - 1) warp_sums[warp] = up_to;
  sync_block();
  const int of_lane = lane < kWarps ? warp_sums[lane] : 0;
  sync_block();
  return {sum_over_warp(lane < warp ? of_lane : 0) + up_to - value, sum_over_warp(of_lane)};
}

}  // namespace fastnce::cuda
