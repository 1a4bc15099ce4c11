// The tests' version of csrc/cuda/row_sort.cu.
#include "cuda/row_sort.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "memory.h"

namespace fastnce::cuda {

namespace {

template <class T>
void access(T* array, std::int64_t count, emulated::Access access) {
  emulated::access_global(array, static_cast<std::size_t>(count) * sizeof(T), access);
}

}  // namespace

std::size_t sort_bytes(std::int64_t) { return 1; }

void sort_by_key(const SortArrays& arrays, std::int64_t count, int key_bits, void*, std::size_t, const Stream& stream) {
  if (count == 0) return;
  const emulated::Work work("sort_by_key", stream);
  for (int i = 0; i < 2; ++i) {
    const auto kind = i == 0 ? emulated::Access::kRead : emulated::Access::kWrite;
    access(arrays.keys[i], count, kind);
    access(arrays.values[i], count, kind);
  }
  const std::uint64_t mask = key_bits == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << key_bits) - 1;
  std::vector<std::int64_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {}, [&](std::int64_t i) { return arrays.keys[0][i] & mask; });
  for (std::int64_t i = 0; i < count; ++i) {
    arrays.keys[1][i] = arrays.keys[0][order[i]];
    arrays.values[1][i] = arrays.values[0][order[i]];
  }
}

void running_sum(const std::uint32_t* flags, std::uint32_t* sums, std::int64_t count, void*, std::size_t,
                 const Stream& stream) {
  if (count == 0) return;
  const emulated::Work work("running_sum", stream);
  access(flags, count, emulated::Access::kRead);
  access(sums, count, emulated::Access::kWrite);
  std::inclusive_scan(flags, flags + count, sums);
}

}  // namespace fastnce::cuda
