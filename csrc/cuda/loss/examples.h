// Kernels per example and per sampled class, before and after the GEMMs: gather, true classes, rounding.
#pragma once

#include <cstdint>

#include "cuda/gemm/geometry.h"
#include "cuda/gemm/operands.cuh"
#include "cuda/loss/factor.cuh"
#include "cuda/loss/log_q.cuh"
#include "cuda/rows/table.cuh"
#include "cuda/rows/targets.cuh"
#include "cuda/runtime/runtime.h"

namespace fastnce::cuda {

// Gathers sampled rows of the table into an operand; their biases and expected counts become an offset.
struct EnterSamplesArguments {
  DeviceTable weights, biases;
  const std::int64_t* sampled;  // z [S]; null: the rows from `first_class` on
  std::int64_t first_class = 0;
  GivenQ q;  // Q(z) [S]
  std::int64_t num_sampled, dim, num_classes;
  std::int64_t rows;  // S, padded
  OperandPlanes planes;
  float* offset;  // [S]; null: not wanted
  runtime::FaultRecord* faults;
};
void queue_enter_samples(const EnterSamplesArguments& arguments, const Stream& stream);

// Packs inputs into an operand; computes logits, losses and gradients of true classes.
struct EnterExamplesArguments {
  DeviceTable weights, biases;
  Rows inputs;  // x [B, D]
  DeviceTargets targets;
  std::int64_t num_labels;     // L
  GivenQ q;                    // Q(y) [L]
  const float* label_weights;  // [L]; null: 1
  // T [B], of all parts of a loss; null: it is not in parts. An example with 0 takes no part, whatever labels it has.
  const std::int64_t* label_count;
  bool mean;                 // a true class has target 1 / T, else 1
  bool weights_are_targets;  // of the logistic loss; they multiply nothing then
  Factor positive_weight, grad_loss;
  float input_scale;  // multiplies x: 1 / temperature
  std::int64_t batch, dim, num_classes;
  std::int64_t rows;     // B, padded
  OperandPlanes planes;  // zeros for examples that take no part
  bool* takes_part;      // [B]: whether an example has a true class in any part; null: all take part, as where T is 0
  float* true_logit;     // u [L]; null: not the softmax loss, whose gradients need the normaliser (cuda/loss/softmax.h)
  float* true_loss;      // [L]; logistic alone
  // [L]: dloss/du, times the upstream factor; 0 for padding and labels out of range. Of the softmax loss: the weight of
  // the label; NaN for labels out of range.
  float* true_grad;
  runtime::FaultRecord* faults;
};
void queue_enter_examples(const EnterExamplesArguments& arguments, const Stream& stream);

// Sums the split-k parts of a chunk's losses and dX.
struct FinishExamplesArguments {
  DeviceTable weights;
  DeviceTargets targets;  // of the whole batch, as all that follows without "parts"
  DeviceLists exclude;    // an example whose list is not known has no loss
  const bool* takes_part;
  const float* true_loss;
  const float* true_grad;
  std::int64_t dim, num_classes;
  std::int64_t first, examples;  // of the chunk
  const float* loss_parts;       // [loss_part_count, loss_pitch]
  std::int64_t loss_part_count, loss_pitch;
  const float* input_parts;  // [input_part_count, chunk rows, input_pitch]
  std::int64_t input_part_count, input_part, input_pitch;
  float input_scale;  // multiplies dX: 1 / temperature
  float* loss;        // [B]; null: not wanted
  void* grad_inputs;  // dX [B, D]; null: not wanted
  DType grad_inputs_dtype;
};
void queue_finish_examples(const FinishExamplesArguments& arguments, const Stream& stream);

// Adds a chunk's bias gradients of the sampled classes.
struct FinishSamplesArguments {
  const float* bias_parts;  // [bias_part_count, bias_pitch]
  std::int64_t bias_part_count, bias_pitch;
  std::int64_t num_sampled;
  float* bias_sums;  // [S]
  bool accumulate;   // add to what earlier chunks gave
};
void queue_finish_samples(const FinishSamplesArguments& arguments, const Stream& stream);

}  // namespace fastnce::cuda
