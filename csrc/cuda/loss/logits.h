// GEMM X W^T with the loss as its epilogue: logits of all sampled classes, their loss, and their gradient G.
#pragma once

#include <cstdint>

#include "cuda/gemm/geometry.h"
#include "cuda/gemm/operands.cuh"
#include "cuda/gemm/tile_product.cuh"
#include "cuda/loss/factor.cuh"
#include "cuda/runtime/ids.cuh"

namespace fastnce::cuda {

// A chunk of examples against all sampled classes.
struct LogitsArguments {
  Operand x;                    // [chunk rows, D]
  Operand w;                    // [S, D]
  std::int64_t slices;          // of D
  float scale;                  // of the products: 1 / temperature
  const float* offset;          // [S]: bias - log Q
  const std::int64_t* sampled;  // z [S]
  // Which samples an example removes: those of its labels, which are compared with each, or a bit of each (removed.h).
  const std::int64_t* labels;    // y [examples, T]; null: none are compared
  const std::uint32_t* removed;  // [chunk rows, removed_pitch]: bit s % 32 of word s / 32; null: none
  std::int64_t removed_pitch;    // in words
  Padding padding;               // among labels
  const bool* takes_part;        // [examples]: whether an example has a true class; null: all have
  Factor grad_loss;              // of the chunk
  Factor negative_weight;        // likewise
  std::int64_t examples;         // of this chunk
  std::int64_t num_sampled;
  std::int64_t num_true;

  // G [chunk rows, S] in as many parts as the order; null data: not wanted. Of the softmax loss: exp(v - maximum).
  OperandPlanes grad;
  // [sample tiles, chunk rows]: the loss, or exp(v - maximum), summed over a tile's samples. Null: no loss is wanted.
  float* loss_parts;
  std::int64_t loss_pitch;  // chunk rows
  float* maxima;            // [sample tiles, chunk rows]: of the logits in a tile; softmax alone
  float* bias_parts;        // [chunk tiles, S]: G, summed over a tile's examples; logistic alone
  std::int64_t bias_pitch;  // S, padded
};

void queue_softmax_logits(const LogitsArguments& arguments, const Geometry& geometry, Parts parts,
                          const Stream& stream);
void queue_logistic_logits(const LogitsArguments& arguments, const Geometry& geometry, Parts parts,
                           const Stream& stream);

}  // namespace fastnce::cuda
