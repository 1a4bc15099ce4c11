// Coalesced row gradients: the rows of the class table that a call touches, each once, ascending, with their sums.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/gemm/geometry.h"
#include "cuda/rows/row_order.h"
#include "cuda/rows/table.cuh"
#include "cuda/runtime/runtime.h"

namespace fastnce::cuda {

// Sorted entries that one block adds up: one for each lane of a warp.
inline constexpr std::int64_t kPieceEntries = kWarpThreads;

struct RowsArguments {
  RowOrder order;
  std::int64_t dim;
  Rows inputs;             // x [B, D]
  float input_scale = 1;   // multiplies x: 1 / temperature
  const float* true_grad;  // [L]
  float* weight_parts;     // [weight_part_count, S, weight_pitch]: from the products; the first becomes their sum
  std::int64_t weight_part_count, weight_part, weight_pitch;
  const float* bias_sums;  // [S]; of groups G [B, S], and then there are no weight_parts

  // Workspace: sums of rows that begin or end in another piece. A piece has two, for the row that it continues and for
  // the row that goes on in the next piece.
  float* row_parts;   // [2 pieces, D]
  float* bias_parts;  // [2 pieces]

  // Outputs, as in LossOutputs; the gradients may be null.
  std::int64_t* row_ids;
  void* grad_weights;
  void* grad_biases;
  DType grad_weights_dtype, grad_biases_dtype;

  constexpr std::int64_t pieces() const { return ceiling(order.entries(), kPieceEntries); }
  constexpr std::int64_t weight_elements() const { return order.num_sampled * weight_pitch; }  // of one part
};

// Call queue_row_order() first.
void queue_row_sums(const RowsArguments& arguments, const Stream& stream);

}  // namespace fastnce::cuda
