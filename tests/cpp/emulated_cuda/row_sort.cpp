// The tests' version of csrc/cuda/row_sort.cu.
#include "cuda/row_sort.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace fastnce::cuda {

std::size_t sort_bytes(std::int64_t) { return 1; }

void sort_by_key(const SortArrays& arrays, std::int64_t count, int key_bits, void*, std::size_t, const Stream&) {
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
                 const Stream&) {
  std::inclusive_scan(flags, flags + count, sums);
}

}  // namespace fastnce::cuda
