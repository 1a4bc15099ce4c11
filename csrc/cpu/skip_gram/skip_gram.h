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
  const std::uint32_t* keep;        // [V], as in SkipGram
  const float* terms;               // [V]
  Distribution negatives;
  SkipGramText text;
  int threads;
};

SkipGramProgress train_skip_gram(const SkipGramCall& call);

}  // namespace fastnce::cpu
