// Sizes that fit the words and arguments of kernels.
#pragma once

#include <cstdint>

namespace fastnce::cuda {

// Of one table: its addresses travel as a kernel argument.
inline constexpr std::int64_t kMostShards = 32;
// B T + S, and V: a class and the number of an entry share a word of 64 bits (cuda/row_order.h).
inline constexpr std::int64_t kMostEntries = std::int64_t{1} << 28;
inline constexpr std::int64_t kMostClasses = (std::int64_t{1} << 36) - 1;

}  // namespace fastnce::cuda
