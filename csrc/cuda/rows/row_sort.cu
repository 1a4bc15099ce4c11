#include "cuda/rows/row_sort.h"

#include <algorithm>

#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>

#include "cuda/rows/row_order.cuh"
#include "cuda/runtime/runtime.h"

namespace fastnce::cuda {

namespace {

// In 32 bits, as CUB's counters then are.
using Count = std::int32_t;
static_assert(kMostEntries <= std::numeric_limits<Count>::max());

auto starts_of(const RowEntry* sorted, std::int64_t num_classes) {
  return thrust::make_transform_iterator(thrust::counting_iterator<Count>(0), RowStarts{sorted, num_classes});
}

std::size_t ask_cub(std::int64_t count) {
  const RowEntry* const from = nullptr;
  RowEntry* const to = nullptr;
  std::uint32_t* const rows = nullptr;
  std::size_t sorting = 0;
  std::size_t summing = 0;
  runtime::require(cub::DeviceRadixSort::SortKeys(nullptr, sorting, from, to, static_cast<Count>(count)));
  runtime::require(
      cub::DeviceScan::InclusiveSum(nullptr, summing, starts_of(from, 0), rows, static_cast<Count>(count)));
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

void sort_entries(const RowEntry* entries, RowEntry* sorted, std::int64_t count, int first_bit, int end_bit,
                  void* scratch, std::size_t scratch_bytes, const Stream& stream) {
  runtime::require(cub::DeviceRadixSort::SortKeys(scratch, scratch_bytes, entries, sorted, static_cast<Count>(count),
                                                  first_bit, end_bit, static_cast<cudaStream_t>(stream.handle)));
}

void number_rows(const RowEntry* sorted, std::int64_t num_classes, std::uint32_t* rows_so_far, std::int64_t count,
                 void* scratch, std::size_t scratch_bytes, const Stream& stream) {
  runtime::require(cub::DeviceScan::InclusiveSum(scratch, scratch_bytes, starts_of(sorted, num_classes), rows_so_far,
                                                 static_cast<Count>(count), static_cast<cudaStream_t>(stream.handle)));
}

}  // namespace fastnce::cuda
