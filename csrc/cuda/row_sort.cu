#include "cuda/row_sort.h"

#include <algorithm>

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>

#include "cuda/runtime.h"

namespace fastnce::cuda {

namespace {

std::size_t ask_cub(std::int64_t count) {
  const std::uint64_t* keys = nullptr;
  const std::uint32_t* values = nullptr;
  std::size_t sorting = 0;
  std::size_t summing = 0;
  runtime::require(cub::DeviceRadixSort::SortPairs(nullptr, sorting, keys, const_cast<std::uint64_t*>(keys), values,
                                                   const_cast<std::uint32_t*>(values), count));
  runtime::require(cub::DeviceScan::InclusiveSum(nullptr, summing, values, const_cast<std::uint32_t*>(values), count));
  return std::max(sorting, summing);
}

}  // namespace

// Cached: a training step asks for the same sizes several times, and each query goes to the driver.
std::size_t sort_bytes(std::int64_t count) {
  struct Answer {
    int device = -1;
    std::int64_t count = 0;
    std::size_t bytes = 0;
  };
  thread_local Answer last;
  int device = 0;
  runtime::require(cudaGetDevice(&device));
  if (last.device != device || last.count != count) last = {device, count, ask_cub(count)};
  return last.bytes;
}

void sort_by_key(const SortArrays& arrays, std::int64_t count, int key_bits, void* scratch, std::size_t scratch_bytes,
                 const Stream& stream) {
  if (count == 0) return;
  const std::uint64_t* const keys = arrays.keys[0];
  const std::uint32_t* const values = arrays.values[0];
  runtime::require(cub::DeviceRadixSort::SortPairs(scratch, scratch_bytes, keys, arrays.keys[1], values,
                                                   arrays.values[1], count, 0, key_bits,
                                                   static_cast<cudaStream_t>(stream.handle)));
}

void running_sum(const std::uint32_t* flags, std::uint32_t* sums, std::int64_t count, void* scratch,
                 std::size_t scratch_bytes, const Stream& stream) {
  if (count == 0) return;
  runtime::require(cub::DeviceScan::InclusiveSum(scratch, scratch_bytes, flags, sums, count,
                                                 static_cast<cudaStream_t>(stream.handle)));
}

}  // namespace fastnce::cuda
