// Coalesced row gradients: the rows of the class table that a call touches, each once, ascending, with their sums.
#pragma once

#include <cstdint>

#include "cuda/row_sort.h"
#include "cuda/runtime.h"
#include "cuda/table.cuh"

namespace fastnce::cuda {

// Entry e < B T is true class e % T of example e / T, entry e >= B T is sampled position e - B T, as in RowPlan.
struct RowsArguments {
  const std::int64_t* labels;   // y [B, T]
  const std::int64_t* sampled;  // z [S]
  std::int64_t num_labels, num_sampled, num_true, dim, num_classes;
  Rows inputs;                // x [B, D]
  const float* true_grad;     // [B, T]
  const float* weight_parts;  // [weight_part_count, S, weight_pitch]: what the products give for sampled rows
  std::int64_t weight_part_count, weight_part, weight_pitch;
  const float* bias_sums;  // [S]: the same for their biases

  // Workspace, [B T + S] each but for the last two.
  SortArrays sort;
  std::uint32_t* row_starts;   // 1 where a row starts among the sorted entries
  std::uint32_t* rows_so_far;  // rows that have started up to and with each entry
  float* row_parts;            // [2 pieces, D + 1]: of rows that begin or end in another piece
  void* sort_scratch;
  std::size_t sort_scratch_bytes;

  // Outputs, as in SampledLossParams; the gradients may be null.
  std::int64_t* row_ids;
  std::int64_t* row_count;
  void* grad_weights;
  void* grad_biases;
  DType grad_weights_dtype, grad_biases_dtype;

  constexpr std::int64_t entries() const { return num_labels + num_sampled; }
};

void queue_rows(const RowsArguments& arguments, const Stream& stream);

}  // namespace fastnce::cuda
