// Stochastic rounding of float32 to float16 or bfloat16: up with the probability that makes the expectation exact. A
// table of 16 bits then follows steps that are smaller than half of its unit, which rounding to nearest would lose.
#pragma once

#include <cstdint>

#include "math/hd.h"
#include "math/philox.h"

namespace fastnce::math {

// The random bits of one row in one step: a pure function of both, whatever thread rounds it.
struct RowRandom {
  std::uint32_t add, flip;
};

// `table`: 0 for weights, 1 for biases.
FASTNCE_HD RowRandom row_random(std::uint64_t seed, std::uint64_t step, std::uint64_t row, std::uint32_t table) {
  const PhiloxBlock block = philox4x32(seed, {row, step << 1 | table});
  return {block.word[0], block.word[1]};
}

// Of element d: an integer hash with full avalanche (two rounds of multiply and shift), an eighth of Philox's work.
FASTNCE_HD std::uint32_t element_bits(RowRandom row, std::uint32_t d) {
  std::uint32_t x = d * 0x9E3779B9u + row.add;
  x ^= x >> 16;
  x *= 0x7FEB352Du;
  x ^= x >> 15;
  x *= 0x846CA68Bu;
  x ^= x >> 16;
  return x ^ row.flip;
}

// A float32 number that bfloat16 holds: of the 16 bits that go, a random number of 16 bits decides whether they carry.
FASTNCE_HD float stochastic_bfloat16(float value, std::uint32_t random) {
  const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, value);
  const std::uint32_t rounded = (bits + (random & 0xFFFFu)) & 0xFFFF0000u;
  return (bits & 0x7F800000u) == 0x7F800000u ? value : __builtin_bit_cast(float, rounded);
}

// The same for float16, where 13 bits go. Below 2^-14, float16's units no longer shrink: adding 2^-14 gives a float32
// number whose 13 last bits are those that go.
FASTNCE_HD float stochastic_float16(float value, std::uint32_t random) {
  const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, value);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  const float shift = magnitude < 0x38800000u ? 0x1p-14f : 0.0f;
  const float shifted = __builtin_bit_cast(float, magnitude) + shift;
  const std::uint32_t rounded = (__builtin_bit_cast(std::uint32_t, shifted) + (random & 0x1FFFu)) & 0xFFFFE000u;
  const float result = __builtin_bit_cast(float, rounded) - shift;
  const std::uint32_t sign = bits & 0x80000000u;
  return magnitude >= 0x7F800000u ? value : __builtin_bit_cast(float, __builtin_bit_cast(std::uint32_t, result) | sign);
}

}  // namespace fastnce::math
