// Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011), and how the
// samplers read it. Stateless: block i of a stream is a pure function of (key, counter), so any draw can be computed by
// any thread, in any order, on any device.
#pragma once

#include <cstdint>

#include "math/hd.h"

namespace fastnce::math {

// A 128-bit counter; `low` counts the blocks of a stream, `high` starts as the second seed.
struct PhiloxCounter {
  std::uint64_t low;
  std::uint64_t high;
};

struct PhiloxBlock {
  std::uint32_t word[4];
};

FASTNCE_HD PhiloxCounter advanced(PhiloxCounter counter, std::uint64_t blocks) {
  const std::uint64_t low = counter.low + blocks;
  return {low, counter.high + (low < blocks ? 1u : 0u)};
}

FASTNCE_HD PhiloxBlock philox4x32(std::uint64_t key, PhiloxCounter counter) {
  constexpr std::uint32_t kMultiplier0 = 0xD2511F53u;
  constexpr std::uint32_t kMultiplier1 = 0xCD9E8D57u;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9u;  // golden ratio
  constexpr std::uint32_t kWeyl1 = 0xBB67AE85u;  // sqrt(3) - 1
  std::uint32_t c0 = static_cast<std::uint32_t>(counter.low);
  std::uint32_t c1 = static_cast<std::uint32_t>(counter.low >> 32);
  std::uint32_t c2 = static_cast<std::uint32_t>(counter.high);
  std::uint32_t c3 = static_cast<std::uint32_t>(counter.high >> 32);
  std::uint32_t k0 = static_cast<std::uint32_t>(key);
  std::uint32_t k1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = static_cast<std::uint64_t>(kMultiplier0) * c0;
    const std::uint64_t product1 = static_cast<std::uint64_t>(kMultiplier1) * c2;
    c0 = static_cast<std::uint32_t>(product1 >> 32) ^ c1 ^ k0;
    c2 = static_cast<std::uint32_t>(product0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<std::uint32_t>(product1);
    c3 = static_cast<std::uint32_t>(product0);
    k0 += kWeyl0;
    k1 += kWeyl1;
  }
  return {{c0, c1, c2, c3}};
}

// Uniform in [0, 1) on a grid of 2^-52; the first word gives the high 20 bits (TensorFlow's order).
FASTNCE_HD double uniform_double(std::uint32_t first, std::uint32_t second) {
  const std::uint64_t bits = (static_cast<std::uint64_t>(first & 0xFFFFFu) << 32) | second;
  return static_cast<double>(bits) * 0x1p-52;
}

}  // namespace fastnce::math
