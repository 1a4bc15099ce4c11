#include "cuda/all_classes/ranks.h"

#include "cuda/runtime/ids.cuh"
#include "cuda/runtime/warp.cuh"

namespace fastnce::cuda {

namespace {

constexpr int kThreads = 128;

FASTNCE_DEVICE bool has_class(const LabelScoresArguments& args, std::int64_t e) {
  return args.targets.is_class(e, args.targets.ids[e]) && is_valid_id(args.targets.ids[e], args.num_classes);
}

// A thread per label, or score, in the first three kernels.
FASTNCE_KERNEL(kThreads, 1) label_entries_kernel(FASTNCE_ARGUMENTS LabelScoresArguments args) {
  const std::int64_t e = block_x() * kThreads + thread_index();
  if (e >= args.num_labels) return;
  const DeviceTargets& targets = args.targets;
  const std::int64_t id = targets.ids[e];
  const bool valid = has_class(args, e);
  args.examples[e] = valid ? targets.example_of(e) : 0;
  args.classes[e] = valid ? id : 0;
  if (valid || !targets.is_class(e, id)) return;
  record_fault(args.faults, targets.are_lists() ? IdArgument::kLabelValues : IdArgument::kLabels, e, id,
               targets.are_lists() ? 0 : targets.per_example, args.num_classes, targets.padding);
}

FASTNCE_KERNEL(kThreads, 1) label_scores_kernel(FASTNCE_ARGUMENTS LabelScoresArguments args) {
  const std::int64_t e = block_x() * kThreads + thread_index();
  if (e < args.num_labels) args.scores[e] = has_class(args, e) ? args.of_pairs[e] : __builtin_nanf("");
}

FASTNCE_KERNEL(kThreads, 1) begin_ranks_kernel(FASTNCE_ARGUMENTS RanksArguments args) {
  const std::int64_t e = block_x() * kThreads + thread_index();
  if (e >= args.num_scores) return;
  const std::int32_t b = args.targets.example_of(e);
  const bool is_known = b != DeviceTargets::kNone && !args.exclude.is_broken(b);
  const float score = args.scores[e];
  args.ranks[e] = is_known && score - score == 0.0f ? 1.0 : static_cast<double>(__builtin_nanf(""));
}

struct CountHigherArguments {
  RanksArguments ranks;
  ScoreBlock block;
};

// A block of threads per example; counts of one launch fit 32 bits.
FASTNCE_KERNEL(kThreads, 8) count_higher_kernel(FASTNCE_ARGUMENTS CountHigherArguments args) {
  auto* const warp_sums = reinterpret_cast<int*>(shared_memory());
  const ScoreBlock& block = args.block;
  const std::int64_t b = block.first + block_x();
  const float* const scores = block.scores + row_offset(block_x(), block.pitch);
  const std::int64_t begin = args.ranks.targets.begin(b);
  const std::int64_t end = begin + args.ranks.targets.count(b);
  for (std::int64_t e = begin; e < end; ++e) {
    const float own = args.ranks.scores[e];
    if (own - own != 0.0f) continue;  // not finite, for all threads alike: the rank stays NaN
    const std::int64_t own_column = args.ranks.own_classes[e] - block.first_class;
    int halves = 0;
    for (std::int64_t column = thread_index(); column < block.classes; column += kThreads) {
      if (column == own_column || block.is_left_out(block_x(), column)) continue;
      const float score = scores[column];
      halves += score > own ? 2 : score == own ? 1 : 0;
    }
    const int total = sum_over_block<kThreads>(halves, warp_sums).total;
    if (thread_index() == 0) args.ranks.ranks[e] += 0.5 * total;
  }
}

}  // namespace

void queue_label_entries(const LabelScoresArguments& args, const Stream& stream) {
  launch(label_entries_kernel, {.x = ceiling(args.num_labels, kThreads)}, kThreads, 0, stream, args);
}

void queue_label_scores(const LabelScoresArguments& args, const Stream& stream) {
  launch(label_scores_kernel, {.x = ceiling(args.num_labels, kThreads)}, kThreads, 0, stream, args);
}

void queue_begin_ranks(const RanksArguments& args, const Stream& stream) {
  launch(begin_ranks_kernel, {.x = ceiling(args.num_scores, kThreads)}, kThreads, 0, stream, args);
}

void queue_count_higher(const RanksArguments& args, const ScoreBlock& block, const Stream& stream) {
  launch(count_higher_kernel, {.x = block.examples}, kThreads, kThreads / kWarp * static_cast<int>(sizeof(int)), stream,
         CountHigherArguments{args, block});
}

}  // namespace fastnce::cuda
