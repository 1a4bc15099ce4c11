// From a request to what its kernels read: labels without padding, accidental hits, rows.
#include <algorithm>
#include <cstring>
#include <span>

#include "cpu/loss/loss.h"
#include "cpu/rows/row_plan.h"
#include "cpu/sampler/accidental_hits.h"

namespace fastnce::cpu {

namespace {

// Leaves padding out of the labels, and examples without other labels out of the batch.
void leave_padding_out(const LossRequest& request, LossPlan& plan) {
  const Targets& targets = request.targets;
  const std::int64_t* const end = targets.ids + request.batch * targets.per_example;
  plan.padded = targets.padding && std::find(targets.ids, end, *targets.padding) != end;
  if (!plan.padded) return;
  plan.examples.clear();
  plan.entries.clear();
  plan.entry_example.clear();
  plan.entry_offsets.assign(1, 0);
  plan.entry_log_q.clear();
  const auto* const log_q = static_cast<const std::byte*>(plan.candidates.true_log_q);
  const std::int64_t bytes = element_bytes(request.dtype);
  for (std::int64_t b = 0; b < request.batch; ++b) {
    for (std::int64_t t = 0; t < targets.per_example; ++t) {
      const std::int64_t at = b * targets.per_example + t;
      if (targets.ids[at] == *targets.padding) continue;
      plan.entries.push_back(targets.ids[at]);
      plan.entry_example.push_back(std::ssize(plan.examples));
      if (log_q != nullptr) {
        plan.entry_log_q.insert(plan.entry_log_q.end(), log_q + at * bytes, log_q + (at + 1) * bytes);
      }
    }
    if (std::ssize(plan.entries) == plan.entry_offsets.back()) continue;
    plan.examples.push_back(b);
    plan.entry_offsets.push_back(std::ssize(plan.entries));
  }
  if (log_q != nullptr) plan.candidates.true_log_q = plan.entry_log_q.data();
}

void find_hits(const LossRequest& request, std::span<const std::int64_t> labels, LossPlan& plan) {
  plan.hit_group.clear();
  if (!request.loss.remove_accidental_hits) return;
  Interruption interruption;
  const std::span sampled(plan.candidates.sampled, static_cast<std::size_t>(request.negatives.count));
  const SamplePositions samples(sampled, interruption);
  if (samples.groups_of(labels, plan.hit_group, interruption) == 0) {
    plan.hit_group.clear();
    return;
  }
  plan.hit_begin.assign(samples.begin().begin(), samples.begin().end());
  plan.hit_positions.assign(samples.positions().begin(), samples.positions().end());
}

}  // namespace

void plan_loss(const LossRequest& request, const CandidateView& candidates, LossPlan& plan) {
  plan.candidates = candidates;
  leave_padding_out(request, plan);
  const std::size_t num_labels = static_cast<std::size_t>(request.batch * request.targets.per_example);
  const std::span<const std::int64_t> labels =
      plan.padded ? std::span<const std::int64_t>(plan.entries) : std::span(request.targets.ids, num_labels);
  find_hits(request, labels, plan);
  plan.rows.ids.clear();
  if (!request.wanted.rows()) return;
  cpu::plan_rows(labels, {candidates.sampled, static_cast<std::size_t>(request.negatives.count)}, plan.rows);
}

}  // namespace fastnce::cpu
