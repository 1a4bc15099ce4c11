// The kernels of passes over all classes: one table per way of multiplying.
#pragma once

#include <cstdint>

#include "cpu/all_classes/sweep.h"
#include "cpu/gemm/tile_shape.h"
#include "cpu/loss/loss_task.h"
#include "cpu/runtime/isa.h"
#include "cpu/runtime/parallel.h"
#include "fastnce/types.h"

namespace fastnce::cpu {

// Kernels stop if the call is interrupted. `scratch` is of one thread, aligned to 64 bytes.
template <class T>
struct SweepKernels {
  TileSizes (*sizes)(const PlaneShape&);
  std::int64_t (*scratch_elements)(const PlaneShape&, DType weights_dtype);
  std::int64_t (*full_loss_scratch_elements)(const PlaneShape&, DType weights_dtype);
  void (*pack_examples)(const Sweep<T>&, Range tiles, T* scratch);
  void (*label_scores)(const Sweep<T>&, const StripLabels&, Range examples, T* scores, T* scratch);

  // Add to what the thread's classes before them left.
  void (*top_k)(const Sweep<T>&, const TopKLists<T>&, T* scratch);
  void (*ranks)(const Sweep<T>&, const RankCounts<T>&, T* scratch);

  // Softmax: the thread's maxima and sums; then, with those of all classes in the task, gradients.
  void (*exponentials)(const Sweep<T>&, const LossTask<T>&, const Strip<T>&, T* scratch);
  void (*softmax_gradients)(const Sweep<T>&, const LossTask<T>&, const Strip<T>&, const ClassGradients<T>&, T* scratch);
  // Logistic: loss and gradients.
  void (*sigmoid)(const Sweep<T>&, const LossTask<T>&, const ClassGradients<T>&, T* scratch);
};

// As each vector width compiles it.
struct FullPrecisionSweep {
  SweepKernels<float> f32;
  SweepKernels<double> f64;
};

// Products of float32 tiles come from the instruction set's bfloat16 units where the precision allows.
template <class T>
const SweepKernels<T>& sweep_kernels(Isa isa, Precision precision);

}  // namespace fastnce::cpu
