// GEMM X W^T with a fused epilogue: logits of all sampled classes, their loss, and their gradient G.
#pragma once

#include <cstdint>

#include "cuda/geometry.h"
#include "cuda/operands.cuh"
#include "cuda/tile_product.cuh"

namespace fastnce::cuda {

// A chunk of examples against all sampled classes.
struct LogitsArguments {
  Operand x;                    // [chunk rows, D]
  Operand w;                    // [S, D]
  std::int64_t slices;          // of D
  const float* offset;          // [S]: bias - log Q
  const std::int64_t* sampled;  // z [S]
  const std::int64_t* labels;   // y [examples, T]; null: accidental hits stay
  const float* grad_loss;       // [examples]; null: 1
  std::int64_t examples;        // of this chunk
  std::int64_t num_sampled;
  std::int64_t num_true;
  OperandPlanes grad;       // G [chunk rows, S] in as many parts as the order; null data: not wanted
  float* loss_parts;        // [sample tiles, chunk rows]: softplus, summed over a tile's samples; null: not wanted
  std::int64_t loss_pitch;  // chunk rows
  float* bias_parts;        // [chunk tiles, S]: G, summed over a tile's examples
  std::int64_t bias_pitch;  // S, padded
};

void queue_logits(const LogitsArguments& arguments, const Geometry& geometry, Parts parts, const Stream& stream);

}  // namespace fastnce::cuda
