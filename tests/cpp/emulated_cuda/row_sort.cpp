// The tests' version of csrc/cuda/row_sort.cu, and of the sort in block_sort.cuh.
#include "cuda/row_sort.h"

#include <algorithm>

#include "cuda/block_sort.cuh"
#include "cuda/row_order.cuh"
#include "memory.h"

namespace fastnce::cuda {

namespace {

template <class T>
void access(T* array, std::int64_t count, emulated::Access access) {
  emulated::access_global(array, static_cast<std::size_t>(count) * sizeof(T), access);
}

void sort_by_bits(std::uint64_t* words, std::int64_t count, int first_bit, int end_bit) {
  const std::uint64_t mask = ~std::uint64_t{0} >> (64 - (end_bit - first_bit));
  std::stable_sort(words, words + count,
                   [&](std::uint64_t a, std::uint64_t b) { return (a >> first_bit & mask) < (b >> first_bit & mask); });
}

}  // namespace

namespace emulated {

void sort_in_block(void* const* calls, int) {
  const auto& call = *static_cast<const BlockSortCall*>(calls[0]);
  sort_by_bits(call.words, call.count, call.first_bit, call.end_bit);
}

}  // namespace emulated

std::size_t sort_bytes(std::int64_t) { return 1; }

void sort_entries(const RowEntry* entries, RowEntry* sorted, std::int64_t count, int first_bit, int end_bit, void*,
                  std::size_t, const Stream& stream) {
  const emulated::Work work("sort_entries", stream);
  access(entries, count, emulated::Access::kRead);
  access(sorted, count, emulated::Access::kWrite);
  std::copy(entries, entries + count, sorted);
  sort_by_bits(sorted, count, first_bit, end_bit);
}

void number_rows(const RowEntry* sorted, std::int64_t num_classes, std::uint32_t* rows_so_far, std::int64_t count,
                 void*, std::size_t, const Stream& stream) {
  const emulated::Work work("number_rows", stream);
  access(sorted, count, emulated::Access::kRead);
  access(rows_so_far, count, emulated::Access::kWrite);
  const RowStarts starts{sorted, num_classes};
  std::uint32_t rows = 0;
  for (std::int64_t i = 0; i < count; ++i) rows_so_far[i] = rows += starts(i);
}

}  // namespace fastnce::cuda
