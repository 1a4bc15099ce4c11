#include "cuda/all_classes/evaluate.h"

#include <algorithm>

#include "cuda/all_classes/ranks.h"
#include "cuda/all_classes/sweep.h"
#include "cuda/all_classes/top_k.h"

namespace fastnce::cuda {

namespace {

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

// Scores of labels, by the products of the sweep; the sweep itself is for those who ask for more.
class LabelScores : protected Sweep {
 public:
  LabelScores(const Scoring& scoring, const Targets& targets, const ClassLists& exclude, int device)
      : Sweep(scoring, exclude, device), targets_(targets) {}

  void take(Carver& memory) {
    take_classes(memory);
    take_labels(memory);
  }

  void queue(float* scores, const Stream& stream) {
    if (labels_.num_labels == 0) return;
    labels_.scores = scores;
    queue_scores_of_labels(stream);
  }

 protected:
  void take_labels(Carver& memory) {
    const std::int64_t labels = targets_.count(r_.batch);
    pairs_ = take_planes(memory, std::min(g_.columns, padded(labels, kTileRows)));
    if (targets_.offsets != nullptr) {
      label_fault_ = memory.take<AtomicWord>(1);
      example_ = memory.take<std::int32_t>(labels);
    }
    labels_ = {.targets = {.ids = targets_.ids,
                           .padding = {targets_.padding.has_value(), targets_.padding.value_or(0)},
                           .per_example = targets_.per_example,
                           .lists = {targets_.offsets, targets_.listed, label_fault_},
                           .example = example_},
               .num_labels = labels,
               .num_classes = r_.num_classes,
               .examples = memory.take<std::int64_t>(labels),
               .classes = memory.take<std::int64_t>(labels),
               .of_pairs = memory.take<float>(padded(labels, kTileRows)),
               .scores = nullptr,
               .faults = runtime::fault_record()};
  }

  void queue_scores_of_labels(const Stream& stream) const {
    check_lists(labels_.targets.lists, IdArgument::kLabelOffsets, label_fault_, example_, stream);
    queue_label_entries(labels_, stream);
    if (r_.batch > 0) {
      queue_pairs(labels_.examples, labels_.classes, labels_.num_labels, pairs_, labels_.of_pairs, stream);
    }
    queue_label_scores(labels_, stream);
  }

  const Targets& targets_;
  LabelScoresArguments labels_{};

 private:
  OperandPlanes pairs_{};
  AtomicWord* label_fault_ = nullptr;
  std::int32_t* example_ = nullptr;
};

class RanksOfLabels : LabelScores {
 public:
  using LabelScores::LabelScores;

  void take(Carver& memory) {
    take_sweep(memory);
    take_labels(memory);
    labels_.scores = labels_.of_pairs;
  }

  void queue(double* ranks, const Stream& stream) {
    if (labels_.num_labels == 0) return;
    check_exclude(stream);
    queue_scores_of_labels(stream);
    queue_ranks_of({.targets = labels_.targets,
                    .exclude = exclude(),
                    .num_scores = labels_.num_labels,
                    .scores = labels_.scores,
                    .own_classes = labels_.classes,
                    .ranks = ranks},
                   stream);
  }
};

class RanksOfScores : Sweep {
 public:
  RanksOfScores(const Scoring& scoring, const ScoreLists& lists, const ClassLists& exclude, int device)
      : Sweep(scoring, exclude, device), lists_(lists) {}

  void take(Carver& memory) {
    take_sweep(memory);
    fault_ = memory.take<AtomicWord>(1);
    example_ = memory.take<std::int32_t>(lists_.listed);
    no_classes_ = memory.take<std::int64_t>(lists_.listed);
  }

  void queue(double* ranks, const Stream& stream) {
    if (lists_.listed == 0) return;
    const DeviceTargets targets{.lists = {lists_.offsets, lists_.listed, fault_}, .example = example_};
    check_exclude(stream);
    check_lists(targets.lists, IdArgument::kScoreOffsets, fault_, example_, stream);
    runtime::fill_bytes(no_classes_, 0xFF, static_cast<std::size_t>(lists_.listed) * sizeof *no_classes_, stream);
    queue_ranks_of({.targets = targets,
                    .exclude = exclude(),
                    .num_scores = lists_.listed,
                    .scores = static_cast<const float*>(lists_.scores),
                    .own_classes = no_classes_,
                    .ranks = ranks},
                   stream);
  }

 private:
  const ScoreLists& lists_;
  AtomicWord* fault_ = nullptr;
  std::int32_t* example_ = nullptr;
  std::int64_t* no_classes_ = nullptr;  // [n]: -1
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
  return bytes_of(RanksOfLabels(scoring, targets, exclude, device));
}

void queue_ranks(const Scoring& scoring, const Targets& targets, const ClassLists& exclude, double* ranks,
                 const Workspace& workspace, const Stream& stream) {
  RanksOfLabels call(scoring, targets, exclude, stream.device);
  within(call, workspace).queue(ranks, stream);
}

std::size_t label_scores_bytes(const Scoring& scoring, const Targets& targets, int device) {
  return bytes_of(LabelScores(scoring, targets, {}, device));
}

void queue_label_scores(const Scoring& scoring, const Targets& targets, float* scores, const Workspace& workspace,
                        const Stream& stream) {
  LabelScores call(scoring, targets, {}, stream.device);
  within(call, workspace).queue(scores, stream);
}

std::size_t ranks_bytes(const Scoring& scoring, const ScoreLists& lists, const ClassLists& exclude, int device) {
  return bytes_of(RanksOfScores(scoring, lists, exclude, device));
}

void queue_ranks(const Scoring& scoring, const ScoreLists& lists, const ClassLists& exclude, double* ranks,
                 const Workspace& workspace, const Stream& stream) {
  RanksOfScores call(scoring, lists, exclude, stream.device);
  within(call, workspace).queue(ranks, stream);
}

}  // namespace fastnce::cuda
