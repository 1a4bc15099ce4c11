// Scores of labels, and ranks, of scores that come block by block.
#pragma once

#include "cuda/all_classes/scores.h"
#include "cuda/rows/targets.cuh"
#include "cuda/runtime/runtime.h"

namespace fastnce::cuda {

struct LabelScoresArguments {
  DeviceTargets targets;
  std::int64_t num_labels, num_classes;

  // [L]: the example and the class of each label; 0 in place of what is none.
  std::int64_t* examples;
  std::int64_t* classes;
  float* of_pairs;  // [L]: the scores of these
  float* scores;    // [L]: NaN where a label is none; may be `of_pairs`
  runtime::FaultRecord* faults;
};

// Examples and classes, from which the scores of pairs are computed; then the scores of labels.
void queue_label_entries(const LabelScoresArguments& arguments, const Stream& stream);
void queue_label_scores(const LabelScoresArguments& arguments, const Stream& stream);

// Of scores, each an entry of a list or one of T for an example.
struct RanksArguments {
  DeviceTargets targets;  // without ids: whose entries the scores are
  DeviceLists exclude;    // an example whose list is not known has no ranks
  std::int64_t num_scores;
  const float* scores;
  const std::int64_t* own_classes;  // classes that a score does not compete with; -1: none
  double* ranks;
};

// The ranks, 1 so far; NaN where a score is not finite or no example's.
void queue_begin_ranks(const RanksArguments& arguments, const Stream& stream);

// Adds what the classes of a block add to the ranks: 1 if they score higher, 1 / 2 if the same.
void queue_count_higher(const RanksArguments& arguments, const ScoreBlock& block, const Stream& stream);

}  // namespace fastnce::cuda
