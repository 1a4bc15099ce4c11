// The labels of an example as targets of classes, each class once: what a loss over all classes takes as true classes.
#pragma once

#include <cstdint>

#include "cuda/rows/targets.cuh"

namespace fastnce::cuda {

// Among merged labels: the given padding, or else an id of no class.
constexpr Padding merged_padding(const Padding& given) { return {true, given.given ? given.id : kNoClass}; }

struct MergeLabelsArguments {
  DeviceTargets targets;
  std::int64_t num_labels;          // L
  const float* weights;             // [L]; null: 1
  bool mean;                        // a label has target 1 / T times its weight, else the weight
  const std::int64_t* label_count;  // T [B], of all parts of a loss; null: that of the labels here
  std::int64_t* ids;                // [L]: the first of equal labels; merged_padding() in place of the others
  float* label_targets;             // [L]: of those, the sum over equal labels
};
void queue_merge_labels(const MergeLabelsArguments& arguments, const Stream& stream);

}  // namespace fastnce::cuda
