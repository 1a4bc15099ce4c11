// Sizes: what fits the words and arguments of kernels, and rounding up.
#pragma once

#include <cstdint>

namespace fastnce::cuda {

// Of one table: its addresses travel as a kernel argument.
inline constexpr std::int64_t kMostShards = 32;
// B T + S, and V: a class and the number of an entry share a word of 64 bits (cuda/rows/row_order.h).
inline constexpr std::int64_t kMostEntries = std::int64_t{1} << 28;
inline constexpr std::int64_t kMostClasses = (std::int64_t{1} << 36) - 1;

constexpr std::int64_t ceiling(std::int64_t value, std::int64_t divisor) { return (value + divisor - 1) / divisor; }
constexpr std::int64_t padded(std::int64_t value, std::int64_t multiple) { return ceiling(value, multiple) * multiple; }

}  // namespace fastnce::cuda
