// The fused sampled loss: value and gradients in one pass over tiles, never a [B, S] matrix.
//
//   u[b,t] = x[b] . w[y[b,t]] + c[y[b,t]] - log Q(y[b,t])      v[b,s] = x[b] . w[z[s]] + c[z[s]] - log Q(z[s])
//   loss[b] = sum_t softplus(u[b,t]) - u[b,t] / T  +  sum_s softplus(v[b,s])
//
// With g = dloss/dlogit times the upstream factor of the example: dX = G_true W_y + G W_z, dW_z = G^T X, and so on.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "fastnce/types.h"

namespace fastnce {

// Which rows of the class table a step touches, each once, ascending: the shape of the coalesced row gradients.
//
// Row r belongs to class ids[r] and collects the contributions entries[offsets[r] .. offsets[r+1]), in ascending order:
// entry e < B T is true class e % T of example e / T, entry e >= B T is sampled position e - B T.
struct RowPlan {
  std::vector<std::int64_t> ids;          // [n]
  std::vector<std::int64_t> offsets;      // [n + 1]
  std::vector<std::int64_t> entries;      // [B T + S]
  std::vector<std::int64_t> sampled_row;  // [S]: the row of each sampled position
  bool samples_distinct = true;           // no class was sampled twice
};

// Ids must not be negative. The second form overwrites a plan and reuses its memory.
RowPlan plan_rows(std::span<const std::int64_t> labels, std::span<const std::int64_t> sampled);
void plan_rows(std::span<const std::int64_t> labels, std::span<const std::int64_t> sampled, RowPlan& plan);

// All of one call. Arrays are dense and row-major unless a stride is given; element types are `dtype` unless noted.
struct SampledLossParams {
  DType dtype = DType::kFloat32;  // of the computation: kFloat32 or kFloat64
  // Element types of tables, inputs and their gradients where they are not `dtype`: kFloat16 or kBFloat16 beside
  // kFloat32. Such gradients are summed up in float32 and rounded once.
  std::optional<DType> weights_dtype = {}, biases_dtype = {}, inputs_dtype = {};
  std::optional<DType> grad_inputs_dtype = {}, grad_weights_dtype = {}, grad_biases_dtype = {};
  Precision precision = Precision::kHighest;  // of products over the sampled classes
  std::int64_t batch = 0;                     // B
  std::int64_t dim = 0;                       // D
  std::int64_t num_classes = 0;               // V, at most the number of rows of the tables
  std::int64_t num_true = 1;                  // T
  std::int64_t num_sampled = 0;               // S

  Table weights;                          // [>= V, D]
  Table biases;                           // [>= V]
  const std::int64_t* labels = nullptr;   // y [B, T], each in [0, V)
  const void* inputs = nullptr;           // x [B, D]
  std::int64_t inputs_stride = 0;         // elements from one row of x to the next; 0 repeats one row
  const std::int64_t* sampled = nullptr;  // z [S], each in [0, V)
  const void* true_count = nullptr;       // Q(y) [B, T], expected counts, positive and finite
  const void* sampled_count = nullptr;    // Q(z) [S], likewise but for samples that every example removes as hits
  const void* grad_loss = nullptr;        // upstream factor per example [B]; null means 1. The loss is not scaled.
  bool remove_accidental_hits = false;    // sampled classes equal to a true class of the example contribute nothing

  // Outputs. A null pointer is not computed and costs nothing.
  void* loss = nullptr;           // [B]
  void* grad_inputs = nullptr;    // dX [B, D]
  const RowPlan* rows = nullptr;  // plan_rows(labels, sampled), needed for the two below; n rows
  void* grad_weights = nullptr;   // [n, D]: row r is the gradient of class rows->ids[r]
  void* grad_biases = nullptr;    // [n]
  // On a CUDA device, instead of `rows`. All row outputs then have room for B T + S rows, of which the first n are
  // used; the others repeat the last id with zero gradients.
  std::int64_t* row_ids = nullptr;    // [B T + S]: ids, ascending
  std::int64_t* row_count = nullptr;  // [1]: n
};

// Throws InvalidValue, naming argument, expected and got, unless nce_loss() can take these. `sampled` may still be
// null: all else can be checked before candidates are drawn.
void validate(const SampledLossParams& params);

// Noise-contrastive estimation (tf.nn.nce_loss) and its gradients. Validates first: nothing is written if it throws
// InvalidValue.
void nce_loss(const SampledLossParams& params);

}  // namespace fastnce
