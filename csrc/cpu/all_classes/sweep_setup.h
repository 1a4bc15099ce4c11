// How a pass over all classes is cut up, and the memory that its threads share.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "cpu/all_classes/examples.h"
#include "cpu/all_classes/sweep.h"
#include "cpu/all_classes/sweep_kernels.h"
#include "cpu/loss/loss_kernels.h"
#include "cpu/loss/loss_schedule.h"
#include "cpu/loss/loss_setup.h"
#include "cpu/runtime/cache.h"
#include "cpu/runtime/parallel.h"
#include "cpu/runtime/workspace.h"
#include "fastnce/loss.h"

namespace fastnce::cpu {

// A call's examples are swept strip by strip, and each thread owns a range of classes: a strip packs each class once,
// whatever the number of threads, and a row of dW has one owner. What belongs to an example, each thread has of its
// own and the strip combines, in the order of the threads: a number of threads determines every bit.
struct SweepShape {
  static constexpr std::int64_t kLongestStrip = 4096;

  int threads;
  std::int64_t strip;  // examples, at most
  PlaneShape plane;
  TileSizes tile;
  std::int64_t example_tiles;  // of a strip

  template <class T>
  SweepShape(const Scoring& r, const SweepKernels<T>& kernels, std::int64_t examples, std::int64_t longest_strip,
             double products, bool grad_inputs)
      : threads(threads_of(r, examples, products)) {
    const std::int64_t strips = strips_of(examples, longest_strip);
    strip = (examples + strips - 1) / strips;
    plane = {.batch = strip,
             .num_sampled = (r.num_classes + threads - 1) / threads,
             .dim = r.dim,
             .grad_inputs = grad_inputs,
             .l2_bytes = l2_cache_bytes()};
    tile = kernels.sizes(plane);
    example_tiles = (strip + tile.examples - 1) / tile.examples;
  }

  std::int64_t strips(std::int64_t examples) const { return strips_of(examples, std::max<std::int64_t>(strip, 1)); }
  Range strip_of(std::int64_t examples, std::int64_t index) const { return part_of(examples, index, strips(examples)); }

  // `products`: GEMMs of a pair of example and class.
  static int threads_of(const Scoring& r, std::int64_t examples, double products) {
    constexpr double kEpilogue = 8;               // as many columns more
    constexpr std::int64_t kFewestClasses = 128;  // of a thread, or its tiles are thin
    const double work = 2.0 * products * static_cast<double>(examples) * static_cast<double>(r.num_classes) *
                        (static_cast<double>(r.dim) + kEpilogue);
    const std::int64_t most = std::max<std::int64_t>(r.num_classes / kFewestClasses, 1);
    return static_cast<int>(std::min<std::int64_t>(threads_for(work, kFlopsPerThread), most));
  }

 private:
  static std::int64_t strips_of(std::int64_t examples, std::int64_t longest) {
    return std::max<std::int64_t>((examples + longest - 1) / longest, 1);
  }
};

// An array for each thread, far enough apart that none writes to a cache line of another's.
template <class U>
class PerThread {
 public:
  PerThread() = default;
  PerThread(Carver& memory, int threads, std::int64_t count)
      : stride_((count + kApart - 1) / kApart * kApart), first_(memory.take<U>(threads * stride_)) {}
  U* of(const Team& team) const { return of(team.rank); }
  U* of(int rank) const { return first_ + rank * stride_; }

 private:
  static constexpr std::int64_t kApart = 64;
  std::int64_t stride_ = 0;
  U* first_ = nullptr;
};

// The inputs of a strip, of all threads.
template <class T>
class StripInputs {
 public:
  StripInputs(const Scoring& r, const SweepKernels<T>& kernels, const LossKernels<T>& conversions,
              const SweepShape& shape, Carver& memory)
      : request_(r),
        kernels_(kernels),
        conversions_(conversions),
        shape_(shape),
        dtype_(r.inputs_dtype.value_or(r.dtype)),
        rows_(memory.take<const T*>(shape.strip)),
        packed_(memory.take<T>(shape.example_tiles * shape.tile.x_elements)),
        widened_(dtype_ == r.dtype ? nullptr : memory.take<T>(shape.strip * r.dim)) {}

  // Of the team's share of the strip: where the rows are, as T. All threads must have done that before they pack.
  void locate(const SweptExamples& examples, Range strip, const Team& team) const {
    const Range own = team.share(strip.size());
    const auto* const inputs = static_cast<const std::byte*>(request_.inputs);
    for (std::int64_t b = own.begin; b < own.end; ++b) {
      const auto row = examples.rows[static_cast<std::size_t>(strip.begin + b)];
      const std::byte* const from = inputs + row * request_.inputs_stride * element_bytes(dtype_);
      rows_[b] = widened_ == nullptr ? reinterpret_cast<const T*>(from) : widened_ + b * request_.dim;
      if (widened_ != nullptr) conversions_.widen(from, dtype_, request_.dim, widened_ + b * request_.dim);
    }
  }

  void pack(const Sweep<T>& sweep, const Team& team, T* scratch) const {
    kernels_.pack_examples(sweep, team.share(shape_.example_tiles), scratch);
  }

  // What a thread's kernels read of a strip.
  Sweep<T> sweep(const SweptExamples& examples, Range strip, const Team& team, std::int64_t* cursor,
                 Interruption& interruption, SweepProgress& progress) const {
    return {.plane = shape_.plane,
            .weights = view(request_.weights, request_.weights_dtype.value_or(request_.dtype)),
            .biases = view(request_.biases, request_.biases_dtype.value_or(request_.dtype)),
            .classes = team.share(request_.num_classes),
            .examples = strip.size(),
            .x_rows = rows_,
            .packed_x = packed_,
            .excluded = examples.excluded_of(strip),
            .cursor = cursor,
            .interruption = &interruption,
            .progress = team.rank == 0 ? &progress : nullptr};
  }

 private:
  const Scoring& request_;
  const SweepKernels<T>& kernels_;
  const LossKernels<T>& conversions_;
  const SweepShape& shape_;
  const DType dtype_;
  const T** rows_;  // [strip]
  T* packed_;       // [example_tiles, x_elements]
  T* widened_;      // [strip, D]
};

}  // namespace fastnce::cpu
