// Ranks of labels, of scores that come block by block.
#pragma once

#include "cuda/all_classes/scores.h"
#include "cuda/rows/targets.cuh"
#include "cuda/runtime/runtime.h"

namespace fastnce::cuda {

struct RanksArguments {
  DeviceTargets targets;
  DeviceLists exclude;  // an example whose list is not known has no ranks
  std::int64_t num_labels, num_classes;

  // [L]: the example and the class of each label; 0 in place of what is none.
  std::int64_t* examples;
  std::int64_t* classes;
  float* scores;  // [L]: of the labels
  double* ranks;  // [L]
  runtime::FaultRecord* faults;
};

// Examples and classes, from which the scores of labels are computed; then the ranks, 1 so far, or NaN.
void queue_label_entries(const RanksArguments& arguments, const Stream& stream);
void queue_begin_ranks(const RanksArguments& arguments, const Stream& stream);

// Adds what the classes of a block add to the ranks: 1 if they score higher, 1 / 2 if the same.
void queue_count_higher(const RanksArguments& arguments, const ScoreBlock& block, const Stream& stream);

}  // namespace fastnce::cuda
