// Scores x . w + c of a block of classes for a chunk of examples: the GEMM X W^T, stored. Evaluation goes through all
// classes block by block, so that what is stored at once fits half of the L2 cache, never [B, V].
#pragma once

#include <cstdint>

#include "cuda/gemm/geometry.h"
#include "cuda/gemm/tile_product.cuh"

namespace fastnce::cuda {

struct ScoresArguments {
  Operand x, w;          // [rows, D], [columns, D]
  std::int64_t slices;   // of D
  std::int64_t classes;  // columns that are not padding
  const float* offset;   // [classes]: biases
  float* scores;         // [rows, pitch]; of a diagonal [rows]
  std::int64_t pitch;
  bool diagonal;  // scores of row i and column i alone, by the same products as all others
};

// Sums over d in an order that depends on `parts` alone: equal rows have equal scores, wherever they stand.
void queue_scores(const ScoresArguments& arguments, std::int64_t rows, std::int64_t columns, Parts parts,
                  const Stream& stream);

// The scores of one block of classes for one chunk of examples, as those read them that want the scores.
struct ScoreBlock {
  const float* scores;  // [examples, pitch]
  std::int64_t pitch;
  std::int64_t first_class, classes;
  std::int64_t first, examples;
  const std::uint32_t*
      removed;  // [examples, removed_pitch]: bits of classes that are left out, as in logits.h, or null
  std::int64_t removed_pitch;

  FASTNCE_DEVICE bool is_left_out(std::int64_t row, std::int64_t column) const {
    return removed != nullptr && (removed[row_offset(row, removed_pitch) + column / 32] >> column % 32 & 1) != 0;
  }
};

}  // namespace fastnce::cuda
