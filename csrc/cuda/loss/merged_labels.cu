#include "cuda/loss/merged_labels.h"

#include "cuda/runtime/limits.h"
#include "cuda/runtime/warp.cuh"

namespace fastnce::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;

// A warp per label compares it with all labels of its example: T^2 comparisons, of which a label takes T / 32 in a row.
FASTNCE_KERNEL(kThreads, 1) merge_labels_kernel(FASTNCE_ARGUMENTS MergeLabelsArguments args) {
  const std::int64_t e = block_x() * kWarps + thread_index() / kWarp;
  if (e >= args.num_labels) return;
  const DeviceTargets& targets = args.targets;
  const int lane = thread_index() % kWarp;
  const std::int64_t id = targets.ids[e];
  if (!targets.is_class(e, id)) {
    if (lane != 0) return;
    args.ids[e] = id;
    args.label_targets[e] = 0.0f;
    return;
  }
  const std::int64_t b = targets.example_of(e);
  const std::int64_t begin = targets.begin(b);
  const std::int64_t end = begin + targets.count(b);
  int classes = 0;
  int before = 0;  // equal ones
  float weight = 0.0f;
#pragma unroll 1
  for (std::int64_t t = begin + lane; t < end; t += kWarp) {
    const std::int64_t other = targets.ids[t];
    if (is_padding(targets.padding, other)) continue;
    ++classes;
    if (other != id) continue;
    before += t < e ? 1 : 0;
    weight += args.weights != nullptr ? args.weights[t] : 1.0f;
  }
  classes = sum_over_warp(classes);
  before = sum_over_warp(before);
  weight = sum_over_warp(weight);
  if (lane != 0) return;
  const std::int64_t padding = merged_padding(targets.padding).id;
  // A label that is kNoClass itself becomes another one out of range.
  args.ids[e] = before > 0 ? padding : id != padding ? id : id + 1;
  if (args.label_count != nullptr) classes = static_cast<int>(args.label_count[b]);
  args.label_targets[e] = args.mean ? weight / static_cast<float>(classes) : weight;
}

}  // namespace

void queue_merge_labels(const MergeLabelsArguments& args, const Stream& stream) {
  launch(merge_labels_kernel, {.x = ceiling(args.num_labels, kWarps)}, kThreads, 0, stream, args);
}

}  // namespace fastnce::cuda
