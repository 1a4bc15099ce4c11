#include "cuda/all_classes/evaluate.h"

#include <algorithm>

#include "cuda/all_classes/ranks.h"
#include "cuda/all_classes/scores.h"
#include "cuda/all_classes/top_k.h"
#include "cuda/loss/examples.h"
#include "cuda/loss/removed.h"
#include "cuda/rows/lists.h"
#include "cuda/runtime/carver.h"
#include "cuda/runtime/runtime.h"

namespace fastnce::cuda {

namespace {

// All scores, block after block of classes and chunk after chunk of examples, and what reads them there.
class Sweep {
 public:
  Sweep(const Scoring& scoring, const ClassLists& exclude, int device)
      : r_(scoring),
        excluded_(exclude),
        g_(score_geometry(scoring, runtime::limits(device))),
        parts_(parts_of(scoring)) {}

 protected:
  void take_sweep(Carver& memory) {
    x_ = take_planes(memory, padded(r_.batch, kTileRows));
    w_ = take_planes(memory, g_.columns);
    offset_ = memory.take<float>(g_.columns);
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

  const Scoring& r_;
  const ClassLists& excluded_;
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

class TopK : Sweep {
 public:
  TopK(const Scoring& scoring, std::int64_t k, const ClassLists& exclude, int device)
      : Sweep(scoring, exclude, device), wanted_(k) {}

  void take(Carver& memory) {
    take_sweep(memory);
    const std::int64_t k = std::min(wanted_, r_.num_classes);
    top_ = {.batch = r_.batch,
            .wanted = wanted_,
            .k = k,
            .exclude = exclude(),
            .scores = nullptr,
            .ids = nullptr,
            .other_scores = memory.take<float>(g_.rows * k),
            .other_ids = memory.take<std::int64_t>(g_.rows * k)};
  }

  void queue(float* scores, std::int64_t* ids, const Stream& stream) {
    if (wanted_ == 0) return;
    top_.scores = scores;
    top_.ids = ids;
    check_exclude(stream);
    queue_begin_top_k(top_, stream);
    queue_sweep(stream, [&](const ScoreBlock& block) { queue_merge_top_k(top_, block, stream); });
  }

 private:
  const std::int64_t wanted_;
  TopKArguments top_{};
};

class Ranks : Sweep {
 public:
  Ranks(const Scoring& scoring, const Targets& targets, const ClassLists& exclude, int device)
      : Sweep(scoring, exclude, device), targets_(targets) {}

  void take(Carver& memory) {
    take_sweep(memory);
    const std::int64_t labels = targets_.count(r_.batch);
    pairs_ = take_planes(memory, std::min(g_.columns, padded(labels, kTileRows)));
    if (targets_.offsets != nullptr) {
      label_fault_ = memory.take<AtomicWord>(1);
      example_ = memory.take<std::int32_t>(labels);
    }
    ranks_ = {.targets = {.ids = targets_.ids,
                          .padding = {targets_.padding.has_value(), targets_.padding.value_or(0)},
                          .per_example = targets_.per_example,
                          .lists = {targets_.offsets, targets_.listed, label_fault_},
                          .example = example_},
              .exclude = exclude(),
              .num_labels = labels,
              .num_classes = r_.num_classes,
              .examples = memory.take<std::int64_t>(labels),
              .classes = memory.take<std::int64_t>(labels),
              .scores = memory.take<float>(padded(labels, kTileRows)),
              .ranks = nullptr,
              .faults = runtime::fault_record()};
  }

  void queue(double* ranks, const Stream& stream) {
    if (ranks_.num_labels == 0) return;
    ranks_.ranks = ranks;
    check_exclude(stream);
    check_lists(ranks_.targets.lists, IdArgument::kLabelOffsets, label_fault_, example_, stream);
    queue_label_entries(ranks_, stream);
    if (r_.batch > 0) {
      queue_pairs(ranks_.examples, ranks_.classes, ranks_.num_labels, pairs_, ranks_.scores, stream);
    }
    queue_begin_ranks(ranks_, stream);
    queue_sweep(stream, [&](const ScoreBlock& block) { queue_count_higher(ranks_, block, stream); });
  }

 private:
  const Targets& targets_;
  OperandPlanes pairs_{};
  AtomicWord* label_fault_ = nullptr;
  std::int32_t* example_ = nullptr;
  RanksArguments ranks_{};
};

template <class Call>
std::size_t bytes_of(Call call) {
  Carver measure;
  call.take(measure);
  return measure.used();
}

// What is taken of a workspace, which suffices.
template <class Call>
Call& within(Call& call, const Workspace& workspace) {
  Carver memory(workspace);
  call.take(memory);
  memory.require_within(workspace);
  return call;
}

}  // namespace

std::size_t top_k_bytes(const Scoring& scoring, std::int64_t k, const ClassLists& exclude, int device) {
  return bytes_of(TopK(scoring, k, exclude, device));
}

void queue_top_k(const Scoring& scoring, std::int64_t k, const ClassLists& exclude, float* scores, std::int64_t* ids,
                 const Workspace& workspace, const Stream& stream) {
  TopK call(scoring, k, exclude, stream.device);
  within(call, workspace).queue(scores, ids, stream);
}

std::size_t ranks_bytes(const Scoring& scoring, const Targets& targets, const ClassLists& exclude, int device) {
  return bytes_of(Ranks(scoring, targets, exclude, device));
}

void queue_ranks(const Scoring& scoring, const Targets& targets, const ClassLists& exclude, double* ranks,
                 const Workspace& workspace, const Stream& stream) {
  Ranks call(scoring, targets, exclude, stream.device);
  within(call, workspace).queue(ranks, stream);
}

}  // namespace fastnce::cuda
