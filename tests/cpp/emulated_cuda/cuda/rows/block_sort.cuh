// The tests' version of csrc/cuda/rows/block_sort.cuh, which explains it.
#pragma once

#include <cstdint>

#include "cuda/runtime/device.cuh"

namespace fastnce::cuda {

namespace emulated {

struct BlockSortCall {
  std::uint64_t* words;
  int count, first_bit, end_bit;
};
void sort_in_block(void* const* calls, int threads);  // each thread brings a call, all the same

}  // namespace emulated

template <int kThreads, int kItems>
class BlockSort {
 public:
  static constexpr int kWords = kThreads * kItems;
  static constexpr int kSharedBytes = kWords * static_cast<int>(sizeof(std::uint64_t));

  static void sort(std::uint64_t* words, int first_bit, int end_bit, const Site& site = Site::current()) {
    emulated::BlockSortCall call{words, kWords, first_bit, end_bit};
    emulated::meet_block(&call, emulated::sort_in_block, site);
  }
};

}  // namespace fastnce::cuda
