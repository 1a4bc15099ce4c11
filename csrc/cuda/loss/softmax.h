// The softmax loss between the product that gives exponentials (softmax_logits.cu) and those that take G.
#pragma once

#include <cstdint>

#include "cuda/gemm/geometry.h"
#include "cuda/gemm/operands.cuh"
#include "cuda/loss/factor.cuh"
#include "cuda/rows/targets.cuh"
#include "fastnce/loss.h"

namespace fastnce::cuda {

// Loss and gradients of the true classes of a chunk; what makes G of the exponentials.
struct NormaliseArguments {
  const float* maxima;  // [tiles, pitch]: of an example's logits in a tile
  const float* sums;    // [tiles, pitch]: of exp(v - maximum)
  std::int64_t tiles, pitch;
  const float* true_logit;  // u [L], of the whole batch, as all that follows without "tiles"
  float* true_grad;         // [L]: as enter_examples() leaves it, then dloss/du times the upstream factor
  DeviceTargets targets;
  DeviceLists exclude;     // an example whose list is not known has no loss
  OtherParts parts;        // on the device
  const bool* takes_part;  // [B]; null: all examples do
  bool mean;               // a true class has target 1 / T, else 1
  Factor grad_loss;
  std::int64_t first, examples;  // of the chunk
  float* loss;                   // [B]; null: not wanted
  bool gradients;                // whether what follows and true_grad are wanted
  float* scales;                 // [tiles, pitch]: factor that makes G of exp(v - maximum)
  double* log_sum_exp;           // [B], as in LossOutputs; null: not wanted

  bool in_parts() const { return parts.label_count != nullptr || log_sum_exp != nullptr; }
};
void queue_normalise(const NormaliseArguments& arguments, const Stream& stream);

// Exponentials to G, in place.
struct ScaleArguments {
  OperandPlanes grad;   // [chunk rows, S]
  const float* scales;  // [sample tiles, scale_pitch]
  std::int64_t scale_pitch;
  std::int64_t examples;  // of the chunk
  float* bias_parts;      // [chunk tiles, S]: G, summed over a tile's examples
  std::int64_t bias_pitch;
};
void queue_scale(const ScaleArguments& arguments, const Geometry& geometry, const Stream& stream);

}  // namespace fastnce::cuda
