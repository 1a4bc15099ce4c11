// A sort by one block in its shared memory, by CUB. The tests have a second implementation.
#pragma once

#include <cstdint>

#include <cub/block/block_radix_sort.cuh>

#include "cuda/runtime/device.cuh"

namespace fastnce::cuda {

template <int kThreads, int kItems>
class BlockSort {
  using Cub = cub::BlockRadixSort<std::uint64_t, kThreads, kItems, cub::NullType, 4, (kItems < 12)>;

 public:
  static constexpr int kWords = kThreads * kItems;
  static constexpr int kSharedBytes = static_cast<int>(
      sizeof(typename Cub::TempStorage) > kWords * sizeof(std::uint64_t) ? sizeof(typename Cub::TempStorage)
                                                                         : kWords * sizeof(std::uint64_t));

  // Sorts `words` [kWords] by their bits from `first_bit` up to `end_bit`; words equal in these keep their order. They
  // are in shared memory, kSharedBytes long. All threads of the block call this; it begins and ends with a barrier.
  FASTNCE_DEVICE static void sort(std::uint64_t* words, int first_bit, int end_bit) {
    std::uint64_t own[kItems];
    sync_block();
#pragma unroll
    for (int i = 0; i < kItems; ++i) own[i] = words[thread_index() * kItems + i];
    sync_block();  // CUB works in the same memory
    Cub(*reinterpret_cast<typename Cub::TempStorage*>(words)).SortBlockedToStriped(own, first_bit, end_bit);
    sync_block();
#pragma unroll
    for (int i = 0; i < kItems; ++i) words[i * kThreads + thread_index()] = own[i];
    sync_block();
  }
};

}  // namespace fastnce::cuda
