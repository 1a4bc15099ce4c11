// Hashing of class ids.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace fastnce::cpu {

// `bits` bits, 1 to 63. Multiplicative hashing: the top bits of the product depend on all bits of the id, the others do
// not. The upper half is folded in first, for ids that differ only there.
inline std::size_t hash_bits(std::int64_t id, int bits) {
  const std::uint64_t x = static_cast<std::uint64_t>(id);
  const std::uint64_t product = (x ^ (x >> 32)) * 0x9E3779B97F4A7C15u;  // 2^64 / golden ratio
  return static_cast<std::size_t>(product >> (64 - bits));
}

// A slot in [0, slots), slots a power of two above 1.
inline std::size_t hash_slot(std::int64_t id, std::size_t slots) { return hash_bits(id, std::countr_zero(slots)); }

}  // namespace fastnce::cpu
