// All scores, block after block of classes and chunk after chunk of examples, and what reads them there.
#pragma once

#include <algorithm>
#include <optional>

#include "cuda/all_classes/ranks.h"
#include "cuda/all_classes/scores.h"
#include "cuda/gemm/geometry.h"
#include "cuda/loss/examples.h"
#include "cuda/loss/removed.h"
#include "cuda/rows/lists.h"
#include "cuda/runtime/carver.h"
#include "cuda/runtime/runtime.h"

namespace fastnce::cuda {

class Sweep {
 public:
  Sweep(const Scoring& scoring, const ClassLists& exclude, int device)
      : r_(scoring),
        excluded_(exclude),
        g_(score_geometry(scoring, runtime::limits(device))),
        parts_(parts_of(scoring)) {}

 protected:
  // A block of classes, which is all that pairs need.
  void take_classes(Carver& memory) {
    w_ = take_planes(memory, g_.columns);
    offset_ = memory.take<float>(g_.columns);
  }

  void take_sweep(Carver& memory) {
    take_classes(memory);
    x_ = take_planes(memory, padded(r_.batch, kTileRows));
    scores_ = memory.take<float>(g_.rows * g_.columns);
    if (excluded_.offsets == nullptr) return;
    exclude_fault_ = memory.take<AtomicWord>(1);
    removed_ = memory.take<AtomicWord>(g_.rows * removed_pitch());
  }

  OperandPlanes take_planes(Carver& memory, std::int64_t rows) const {
    const int planes = parts_.operands + (parts_.float16 ? 1 : 0);
    return {memory.take<std::uint16_t>(rows * g_.dim * planes), g_.dim, rows * g_.dim, parts_.operands, parts_.float16};
  }

  DeviceLists exclude() const { return {excluded_.offsets, excluded_.listed, exclude_fault_}; }

  void check_lists(const DeviceLists& lists, IdArgument argument, AtomicWord* fault, std::int32_t* example,
                   const Stream& stream) const {
    if (lists.offsets == nullptr) return;
    queue_lists({.lists = lists,
                 .argument = argument,
                 .batch = r_.batch,
                 .first_fault = fault,
                 .example = example,
                 .faults = runtime::fault_record()},
                stream);
  }
  void check_exclude(const Stream& stream) const {
    check_lists(exclude(), IdArgument::kExcludeOffsets, exclude_fault_, nullptr, stream);
  }

  // Scores of pairs of an example and a class, by the same products as all others. As many at a time as a block has
  // classes; `x` has room for these.
  void queue_pairs(const std::int64_t* examples, const std::int64_t* classes, std::int64_t count,
                   const OperandPlanes& x, float* scores, const Stream& stream) const {
    for (std::int64_t first = 0; first < count; first += g_.columns) {
      const std::int64_t now = std::min(g_.columns, count - first);
      enter_inputs(examples + first, now, x, stream);
      enter_classes(classes + first, 0, now, stream);
      queue_scores({.x = operand(x, 0),
                    .w = operand(w_, 0),
                    .slices = g_.dim / kTileDepth,
                    .classes = now,
                    .offset = offset_,
                    .scores = scores + first,
                    .pitch = 0,
                    .diagonal = true},
                   0, padded(now, kSampleColumns), parts_, stream);
    }
  }

  // Calls use(block) for each; what it queues finds the scores there.
  template <class Use>
  void queue_sweep(const Stream& stream, const Use& use) const {
    if (r_.batch == 0) return;
    enter_inputs(nullptr, r_.batch, x_, stream);
    for (std::int64_t first_class = 0; first_class < r_.num_classes; first_class += g_.columns) {
      const std::int64_t classes = std::min(g_.columns, r_.num_classes - first_class);
      enter_classes(nullptr, first_class, classes, stream);
      for (std::int64_t first = 0; first < r_.batch; first += g_.rows) {
        const std::int64_t examples = std::min(g_.rows, r_.batch - first);
        if (removed_ != nullptr) queue_excluded(first_class, classes, first, examples, stream);
        queue_scores({.x = operand(x_, first),
                      .w = operand(w_, 0),
                      .slices = g_.dim / kTileDepth,
                      .classes = classes,
                      .offset = offset_,
                      .scores = scores_,
                      .pitch = g_.columns,
                      .diagonal = false},
                     padded(examples, kTileRows), padded(classes, kSampleColumns), parts_, stream);
        use(ScoreBlock{.scores = scores_,
                       .pitch = g_.columns,
                       .first_class = first_class,
                       .classes = classes,
                       .first = first,
                       .examples = examples,
                       .removed = reinterpret_cast<const std::uint32_t*>(removed_),
                       .removed_pitch = 2 * removed_pitch()});
      }
    }
  }

  void queue_ranks_of(const RanksArguments& ranks, const Stream& stream) const {
    queue_begin_ranks(ranks, stream);
    queue_sweep(stream, [&](const ScoreBlock& block) { queue_count_higher(ranks, block, stream); });
  }

  const Scoring& r_;
  const ClassLists excluded_;
  const ScoreGeometry g_;

 private:
  std::int64_t removed_pitch() const { return g_.columns / 64; }

  Operand operand(const OperandPlanes& planes, std::int64_t row) const {
    const std::int64_t plane = planes.float16 ? planes.parts : 0;
    return {planes.data + plane * planes.plane + row * planes.pitch, planes.pitch, planes.plane};
  }

  // Rows of the inputs, or all in order, by the kernel that gathers classes.
  void enter_inputs(const std::int64_t* examples, std::int64_t count, const OperandPlanes& to,
                    const Stream& stream) const {
    const Shard rows{r_.inputs, r_.batch, r_.inputs_stride};
    enter({{&rows, 1}, Partition::kDiv}, r_.inputs_dtype, {}, examples, 0, count, r_.batch, to, nullptr, stream);
  }
  void enter_classes(const std::int64_t* classes, std::int64_t first, std::int64_t count, const Stream& stream) const {
    enter(r_.weights, r_.weights_dtype, r_.biases, classes, first, count, r_.num_classes, w_, offset_, stream);
  }
  void enter(const Table& table, std::optional<DType> dtype, const Table& biases, const std::int64_t* ids,
             std::int64_t first, std::int64_t count, std::int64_t rows, const OperandPlanes& to, float* offset,
             const Stream& stream) const {
    queue_enter_samples({.weights = {table, dtype.value_or(r_.dtype)},
                         .biases = {biases, r_.biases_dtype.value_or(r_.dtype)},
                         .sampled = ids,
                         .first_class = first,
                         .q = {},
                         .num_sampled = count,
                         .dim = r_.dim,
                         .num_classes = rows,
                         .rows = padded(count, kTileRows),
                         .planes = to,
                         .offset = offset,
                         .faults = runtime::fault_record()},
                        stream);
  }

  void queue_excluded(std::int64_t first_class, std::int64_t classes, std::int64_t first, std::int64_t examples,
                      const Stream& stream) const {
    queue_removed({.keys = {.first_class = first_class, .num_sampled = classes, .num_classes = r_.num_classes},
                   .targets = {},
                   .labels = false,
                   .exclude = exclude(),
                   .excluded = excluded_.ids,
                   .first = first,
                   .examples = examples,
                   .rows = examples,
                   .served = r_.batch,
                   .words = removed_,
                   .pitch = removed_pitch(),
                   .faults = runtime::fault_record()},
                  stream);
  }

  const Parts parts_;
  OperandPlanes x_{}, w_{};
  float* offset_ = nullptr;
  float* scores_ = nullptr;
  AtomicWord* exclude_fault_ = nullptr;
  AtomicWord* removed_ = nullptr;
};

}  // namespace fastnce::cuda
