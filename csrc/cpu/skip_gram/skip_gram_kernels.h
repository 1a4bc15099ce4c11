// The kernels of skip-gram training: one table per instruction set and way of multiplying.
#pragma once

#include <cstdint>

#include "cpu/runtime/isa.h"
#include "fastnce/skip_gram.h"

namespace fastnce::cpu {

// What all blocks of a call have in common.
struct SkipGramTask {
  EmbeddingTable vectors, outputs;
  std::int64_t dim, window;
  std::int64_t samples, positions;  // S, a multiple of 32; L
  SkipGramLoss loss;
  float negative_weight;  // k / S
};

// Up to L positions of the text and their negatives.
struct SkipGramBlock {
  std::int64_t count = 0;
  const std::int32_t* words = nullptr;                         // [-window, count + window); -1: there is none
  const float* terms = nullptr;                                // of these words
  const std::int32_t *to_left = nullptr, *to_right = nullptr;  // [count]: contexts of a centre on each side
  const std::int32_t* negatives = nullptr;                     // [S]
  const float* negative_terms = nullptr;                       // [S]; unless losses have none
  float rate = 0;
};

struct SkipGramKernels {
  std::int64_t (*scratch_floats)(const SkipGramTask&);
  // One step; returns the loss. Asks for the rows of the next block, unless it is empty, on the way. `scratch` is
  // aligned to 64 bytes, holds scratch_floats(), and was all zeros before the first step of the call.
  double (*step)(const SkipGramTask&, const SkipGramBlock& block, const SkipGramBlock& next, float* scratch);
};

const SkipGramKernels& skip_gram_kernels(Isa isa, Precision precision);

}  // namespace fastnce::cpu
