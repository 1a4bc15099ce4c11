// The CPU backend of skip-gram training.
#pragma once

#include <cstdint>

#include "fastnce/skip_gram.h"

namespace fastnce::cpu {

// One call of SkipGram::train(), checked.
struct SkipGramCall {
  EmbeddingTable vectors, outputs;
  std::int64_t dim;
  const SkipGramOptions* options;
  std::int64_t samples, positions;  // S, L
  std::int64_t repeats;             // of a word in a block, at most
  std::int64_t num_words;           // V
  const SkipGramWord* words;        // [V]
  Distribution negatives;
  SkipGramText text;
  int threads;
};

// Philox streams under the seed: what is kept and reaches, and negatives.
inline constexpr std::uint64_t kTextStream = 0, kNegativeStream = 1;

SkipGramProgress train_skip_gram(const SkipGramCall& call);

}  // namespace fastnce::cpu
