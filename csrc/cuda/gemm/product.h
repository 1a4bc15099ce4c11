// GEMMs dX = G W and dW = G^T X: gradients of examples and of sampled classes.
#pragma once

#include <cstdint>

#include "cuda/gemm/geometry.h"
#include "cuda/gemm/tile_product.cuh"

namespace fastnce::cuda {

// C[m, d] = sum_k A(m, k) B(k, d), the sum in `splits` parts.
struct ProductArguments {
  Operand a;            // G: [m, k] for dX, [k, m] for dW
  Operand b;            // [k, D]: W for dX, X for dW
  std::int64_t slices;  // of k, in all
  float* out;           // [splits, m, D]
  std::int64_t pitch;   // D, padded
  std::int64_t part;    // elements of one split
  bool accumulate;      // add to `out`, which an earlier chunk has written
};

void queue_grad_inputs(const ProductArguments& arguments, const Geometry& geometry, Parts parts, const Stream& stream);
void queue_grad_weights(const ProductArguments& arguments, const Geometry& geometry, Parts parts, const Stream& stream);

}  // namespace fastnce::cuda
