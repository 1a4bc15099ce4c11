// A weight per class that training counts: 1 + how often the class was a true class. Drawn by the inverse distribution
// function: the class whose interval of the running sum holds a uniform integer below the total.
//
// Weights are summed over blocks of 32 classes; a Fenwick tree holds the sums of blocks: node n (from 1) that of the
// n & -n blocks that end with block n - 1. A draw descends the tree and walks through one block, an update climbs it.
#pragma once

#include <cstdint>

#include "math/distribution/uniform_integer.h"
#include "math/hd.h"

namespace fastnce::math {

inline constexpr std::int64_t kLearnedBlock = 32;  // classes: two cache lines

FASTNCE_HD std::int64_t learned_blocks(std::int64_t classes) { return (classes + kLearnedBlock - 1) / kLearnedBlock; }

struct LearnedUnigram {
  static constexpr const char* kName = "learned_unigram";
  static constexpr int kFixedWords = 0;
  static constexpr int kRetriedWords = 1;
  static constexpr bool kOnDevice = false;  // its weights change on the host

  // Without weights all are 1: then the integer is the class.
  template <class Given>
  explicit LearnedUnigram(const Given& given)
      : weights(given.learned.weights),
        tree(given.learned.tree),
        total(weights == nullptr ? given.range_max : given.learned.total),
        integer(static_cast<std::uint64_t>(total)),
        num_blocks(learned_blocks(given.range_max)) {
    for (top = 1; 2 * top <= num_blocks;) top *= 2;
  }

  FASTNCE_HD bool accepts(const std::uint32_t* word) const { return integer.accepts(*word); }
  FASTNCE_HD std::int64_t id(const std::uint32_t*, const std::uint32_t* word) const {
    std::int64_t rest = integer(*word);
    if (weights == nullptr) return rest;
    std::int64_t block = 0;
    for (std::int64_t step = top; step > 0; step /= 2) {
      if (block + step > num_blocks || tree[block + step] > rest) continue;
      block += step;
      rest -= tree[block];
    }
    std::int64_t k = block * kLearnedBlock;
    for (; rest >= weights[k]; ++k) rest -= weights[k];
    return k;
  }
  FASTNCE_HD double probability(std::int64_t k) const {
    const float weight = weights == nullptr ? 1.0f : static_cast<float>(weights[k]);
    return static_cast<double>(weight / static_cast<float>(total));
  }
  double exact_probability(std::int64_t k) const {
    return static_cast<double>(weights == nullptr ? 1 : weights[k]) / static_cast<double>(total);
  }

  const std::int32_t* weights;  // [V], or null
  const std::int32_t* tree;     // [1 + blocks]; node 0 is not used
  std::int64_t total;
  UniformInteger<std::uint32_t> integer;
  std::int64_t num_blocks;
  std::int64_t top;  // the largest power of two that is at most num_blocks
};

}  // namespace fastnce::math
