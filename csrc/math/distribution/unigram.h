// A given weight per class, drawn in constant time by Walker's alias method: a uniform index i, then i itself with
// probability prob[i], otherwise alias[i]. TensorFlow draws the float that decides first.
#pragma once

#include <cstdint>

#include "math/distribution/uniform_integer.h"
#include "math/hd.h"

namespace fastnce::math {

// One index of the table. The float that decides is m 2^-23 for an integer m of 23 bits, and m 2^-23 < prob[i] is the
// same as m < ceil(2^23 prob[i]).
struct AliasEntry {
  std::uint32_t threshold;  // ceil(2^23 prob[i])
  std::uint32_t alias;
};
inline constexpr std::uint32_t kAliasScale = std::uint32_t{1} << 23;

struct Unigram {
  static constexpr const char* kName = nullptr;
  static constexpr int kFixedWords = 1;
  static constexpr int kRetriedWords = 1;
  static constexpr bool kOnDevice = true;

  template <class Given>
  explicit Unigram(const Given& given)
      : integer(static_cast<std::uint64_t>(given.range_max)),
        weights(given.unigram.weights),
        total(given.unigram.total),
        exact_total(given.unigram.exact_total),
        table(given.unigram.alias_table) {}

  FASTNCE_HD bool accepts(const std::uint32_t* word) const { return integer.accepts(*word); }
  FASTNCE_HD std::int64_t id(const std::uint32_t* fixed, const std::uint32_t* word) const {
    const std::int64_t i = integer(*word);
    const AliasEntry entry{table[2 * i], table[2 * i + 1]};
    // No branch: one that nothing predicts would hold up the loads of the next draws.
    const std::int64_t own = -static_cast<std::int64_t>((*fixed & (kAliasScale - 1)) < entry.threshold);
    return (i & own) | (static_cast<std::int64_t>(entry.alias) & ~own);
  }
  // The quotient of two float32 numbers, rounded to float64 and then to float32, is the one rounded once.
  FASTNCE_HD double probability(std::int64_t k) const {
    return static_cast<double>(static_cast<float>(static_cast<double>(weights[k]) / total));
  }

  double exact_probability(std::int64_t k) const { return static_cast<double>(weights[k]) / exact_total; }

  UniformInteger<std::uint32_t> integer;
  const float* weights;  // [V]
  double total;          // their sum, maybe in float32
  double exact_total;
  const std::uint32_t* table;  // [V, 2]: an AliasEntry each
};

}  // namespace fastnce::math
