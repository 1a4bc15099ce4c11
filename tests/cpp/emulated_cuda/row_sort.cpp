// The tests' version of csrc/cuda/rows/row_sort.cu, and of the sort in block_sort.cuh.
#include "cuda/rows/row_sort.h"

#include <algorithm>
#include <cstring>

#include "cuda/rows/block_sort.cuh"
#include "cuda/rows/row_order.cuh"
#include "memory.h"
#include "shared_memory.h"

namespace fastnce::cuda {

namespace {

template <class T>
void access(T* array, std::int64_t count, emulated::Access access) {
  emulated::access_global(array, static_cast<std::size_t>(count) * sizeof(T), access);
}

// Not counted: CUB needs another amount.
void use_scratch(void* scratch, std::size_t bytes) {
  emulated::check_access(scratch, bytes, emulated::Access::kWrite);
  std::memset(scratch, 0xFF, bytes);
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
  const std::size_t bytes = static_cast<std::size_t>(call.count) * sizeof *call.words;
  access_shared(running.in_shared(call.words), bytes, Access::kRead);
  access_shared(running.in_shared(call.words), bytes, Access::kWrite);
  sort_by_bits(call.words, call.count, call.first_bit, call.end_bit);
}

}  // namespace emulated

// As much as a second copy of the entries, and used as much.
std::size_t sort_bytes(std::int64_t count) { return static_cast<std::size_t>(count) * sizeof(RowEntry); }

void sort_entries(const RowEntry* entries, RowEntry* sorted, std::int64_t count, int first_bit, int end_bit,
                  void* scratch, std::size_t scratch_bytes, const Stream& stream) {
  const emulated::Work work("sort_entries", stream);
  use_scratch(scratch, scratch_bytes);
  access(entries, count, emulated::Access::kRead);
  access(sorted, count, emulated::Access::kWrite);
  std::copy(entries, entries + count, sorted);
  sort_by_bits(sorted, count, first_bit, end_bit);
}

void number_rows(const RowEntry* sorted, std::int64_t num_classes, std::uint32_t* rows_so_far, std::int64_t count,
                 void* scratch, std::size_t scratch_bytes, const Stream& stream) {
  const emulated::Work work("number_rows", stream);
  use_scratch(scratch, scratch_bytes);
  access(sorted, count, emulated::Access::kRead);
  access(rows_so_far, count, emulated::Access::kWrite);
  const RowStarts starts{sorted, num_classes};
  std::uint32_t rows = 0;
  for (std::int64_t i = 0; i < count; ++i) rows_so_far[i] = rows += starts(i);
}

}  // namespace fastnce::cuda
