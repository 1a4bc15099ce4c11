// The kernels of the sampled losses: one table per instruction set and element type.
#pragma once

#include <cstdint>

#include "cpu/gemm/tile_shape.h"
#include "cpu/loss/loss_task.h"
#include "cpu/runtime/isa.h"
#include "cpu/runtime/parallel.h"
#include "fastnce/types.h"

namespace fastnce::cpu {

// The phases of a call outside the [B, S] plane, for one instruction set and element type. Ranges are disjoint between
// threads; `row` holds D elements.
template <class T>
struct LossKernels {
  // Elements of another type as T, and T rounded to another type.
  void (*widen)(const void* from, DType dtype, std::int64_t count, T* to);
  void (*narrow)(const T* from, DType dtype, std::int64_t count, void* to);
  // sampled_offset for positions [s0, s1).
  void (*sampled_offsets)(const LossTask<T>&, Range sampled);
  // Logistic: u, its loss and gradient for examples [b0, b1); sets (not adds to) loss_sum, true_grad, grad_inputs.
  void (*logistic_true_classes)(const LossTask<T>&, Range examples, T* row);
  // Softmax: u, which goes to true_grad, and the start of maximum and sum; then, once the sum is complete, the loss,
  // the factor of the samples and, as above, the gradients of true classes.
  void (*softmax_true_logits)(const LossTask<T>&, Range examples, T* row);
  void (*softmax_true_classes)(const LossTask<T>&, Range examples, T* row);
  // Sets rows of grad_weights and grad_biases to zero, or to the share of the true classes, or adds that.
  void (*clear_rows)(const LossTask<T>&, Range rows);
  void (*set_true_rows)(const LossTask<T>&, Range rows);
  void (*add_true_rows)(const LossTask<T>&, Range rows);
  // Adds the copies to the rows.
  void (*add_copies)(const LossTask<T>&, Range rows);
  // Of several groups: the filter of a group's samples, and rows from the G that was kept.
  void (*fill_filter)(const std::int64_t* keys, std::int64_t count, std::uint64_t* filter, int log2_size);
  void (*group_rows)(const LossTask<T>&, Range rows);
};

// The [B, S] plane, for one way of multiplying: a block of it, tile by tile. Blocks add to their outputs, and stop if
// the call is interrupted. `scratch` holds scratch_elements() elements, aligned to 64 bytes.
template <class T>
struct TileKernels {
  std::int64_t (*scratch_elements)(const LossTask<T>&);
  TileSizes (*sizes)(const LossTask<T>&);
  // Logistic: v, its loss and gradients.
  void (*logistic_block)(const LossTask<T>&, Range examples, Range sampled, const TeamSums<T>&, T* scratch);
  // Softmax: exponentials, maxima and sums of all examples of a strip; later their gradients. The first tile of
  // `sampled` has slot number `slot`; slot 0 packs X.
  void (*logits_of_block)(const LossTask<T>&, Range examples, Range sampled, const Strip<T>&, std::int64_t slot,
                          T* scratch);
  void (*gradients_of_block)(const LossTask<T>&, Range examples, Range sampled, const Strip<T>&, std::int64_t slot,
                             const TeamSums<T>&, T* scratch);
};

// Everything in full precision, as each vector width compiles it. `gather`: for a few examples, which use rows of the
// table where they lie.
struct FullPrecisionLoss {
  LossKernels<float> loss_f32;
  LossKernels<double> loss_f64;
  TileKernels<float> tiles_f32, gather_f32;
  TileKernels<double> tiles_f64, gather_f64;
};

template <class T>
const LossKernels<T>& loss_kernels(Isa isa);

// Products of float32 tiles come from the instruction set's bfloat16 units where the precision allows.
template <class T>
const TileKernels<T>& tile_kernels(Isa isa, Precision precision);

template <class T>
const TileKernels<T>& gather_kernels(Isa isa);

}  // namespace fastnce::cpu
