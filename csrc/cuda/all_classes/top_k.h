// The best classes, of scores that come block by block.
#pragma once

#include "cuda/all_classes/scores.h"
#include "cuda/rows/targets.cuh"

namespace fastnce::cuda {

// Lists of the classes that have scored highest so far: falling scores, ties by ascending id.
struct TopKArguments {
  std::int64_t batch;
  std::int64_t wanted;  // of the results: those beyond `k` stay empty
  std::int64_t k;       // of the lists, at most V
  DeviceLists exclude;  // an example whose list is not known has scores of NaN
  float* scores;        // [B, wanted]
  std::int64_t* ids;
  // [chunk rows, k]: the second copy of the lists that merging needs.
  float* other_scores;
  std::int64_t* other_ids;
};

// Empty lists: scores of -inf, ids of -1.
void queue_begin_top_k(const TopKArguments& arguments, const Stream& stream);

void queue_merge_top_k(const TopKArguments& arguments, const ScoreBlock& block, const Stream& stream);

}  // namespace fastnce::cuda
