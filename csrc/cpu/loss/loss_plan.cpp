// From a request to what its kernels read: labels as a list of entries, samples that examples remove, rows.
#include <algorithm>
#include <cstring>
#include <span>

#include "cpu/loss/loss.h"
#include "cpu/rows/row_plan.h"
#include "cpu/sampler/accidental_hits.h"

namespace fastnce::cpu {

namespace {

bool is_dense(const Targets& targets, std::int64_t count) {
  const std::int64_t* const end = targets.ids + count;
  return targets.offsets == nullptr && (!targets.padding || std::find(targets.ids, end, *targets.padding) == end);
}

// The elements of `values` at the places of the entries, in place of it.
void gather_entries(const void*& values, std::span<const std::int64_t> places, std::int64_t bytes,
                    std::vector<std::byte>& gathered) {
  if (values == nullptr) return;
  gathered.resize(places.size() * static_cast<std::size_t>(bytes));
  const auto* const from = static_cast<const std::byte*>(values);
  std::byte* to = gathered.data();
  for (const std::int64_t place : places) {
    std::memcpy(to, from + place * bytes, static_cast<std::size_t>(bytes));
    to += bytes;
  }
  values = gathered.data();
}

// Makes a list of the labels that are no padding, without the examples that have none in any part of the loss.
void list_entries(const LossRequest& request, LossPlan& plan) {
  const Targets& targets = request.targets;
  const std::int64_t* const counts = request.parts.label_count;
  plan.target_weights = targets.weights;
  plan.label_counts.clear();
  plan.listed = counts != nullptr || !is_dense(targets, targets.count(request.batch));
  if (!plan.listed) return;
  plan.examples.clear();
  plan.entries.clear();
  plan.entry_example.clear();
  plan.entry_offsets.assign(1, 0);
  std::vector<std::int64_t> places;
  for (std::int64_t b = 0; b < request.batch; ++b) {
    const std::int64_t begin = targets.begin(b), end = targets.begin(b + 1);
    for (std::int64_t at = begin; at < end; ++at) {
      if (targets.padding && targets.ids[at] == *targets.padding) continue;
      plan.entries.push_back(targets.ids[at]);
      plan.entry_example.push_back(std::ssize(plan.examples));
      places.push_back(at);
    }
    if (counts != nullptr ? counts[b] == 0 : std::ssize(plan.entries) == plan.entry_offsets.back()) continue;
    if (counts != nullptr) plan.label_counts.push_back(counts[b]);
    plan.examples.push_back(b);
    plan.entry_offsets.push_back(std::ssize(plan.entries));
  }
  const std::int64_t bytes = element_bytes(request.dtype);
  gather_entries(plan.candidates.true_log_q, places, bytes, plan.entry_log_q);
  gather_entries(plan.target_weights, places, bytes, plan.entry_weights);
}

// Which of the examples that take part each group of samples serves.
void list_groups(const LossRequest& request, LossPlan& plan) {
  const std::int64_t groups = request.negatives.groups;
  plan.group_offsets.clear();
  if (groups == 1 || !plan.listed) return;
  for (std::int64_t g = 0; g <= groups; ++g) {
    const auto first = std::ranges::lower_bound(plan.examples, request.batch / groups * g);
    plan.group_offsets.push_back(first - plan.examples.begin());
  }
}

// For each example that takes part the classes whose samples it removes, by their keys: its labels, if hits are
// removed, and what it excludes.
void list_removed(const LossRequest& request, std::span<const std::int64_t> labels, LossPlan& plan,
                  std::vector<std::int64_t>& removed) {
  const std::int64_t* const keys = request.class_keys;
  const ClassLists& exclude = request.exclude;
  const auto add = [&](std::span<const std::int64_t> classes) {
    for (const std::int64_t id : classes) removed.push_back(keys != nullptr ? keys[id] : id);
  };
  const std::int64_t examples = plan.listed ? std::ssize(plan.examples) : request.batch;
  plan.hit_offsets.assign(1, 0);
  for (std::int64_t b = 0; b < examples; ++b) {
    const std::int64_t begin = plan.listed ? plan.entry_offsets[b] : b * request.targets.per_example;
    const std::int64_t end = plan.listed ? plan.entry_offsets[b + 1] : begin + request.targets.per_example;
    if (request.loss.remove_accidental_hits) {
      add(labels.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)));
    }
    if (exclude.offsets != nullptr) {
      const std::int64_t row = plan.listed ? plan.examples[b] : b;
      const std::span<const std::int64_t> own(exclude.ids + exclude.offsets[row],
                                              exclude.ids + exclude.offsets[row + 1]);
      keys != nullptr ? static_cast<void>(removed.insert(removed.end(), own.begin(), own.end())) : add(own);
    }
    plan.hit_offsets.push_back(std::ssize(removed));
  }
}

void find_hits(const LossRequest& request, std::span<const std::int64_t> labels, LossPlan& plan) {
  plan.hit_group.clear();
  plan.hit_offsets.clear();
  if (!request.removes_samples() || request.negatives.groups > 1) return;
  Interruption interruption;
  std::span sampled(plan.candidates.sampled, static_cast<std::size_t>(request.negatives.total()));
  std::vector<std::int64_t> removed, sampled_keys;
  const bool only_labels = request.exclude.offsets == nullptr && request.class_keys == nullptr;
  if (!only_labels) list_removed(request, labels, plan, removed);
  if (request.class_keys != nullptr) {
    for (const std::int64_t id : sampled) sampled_keys.push_back(request.class_keys[id]);
    sampled = sampled_keys;
  }
  const SamplePositions samples(sampled, interruption);
  if (samples.groups_of(only_labels ? labels : removed, plan.hit_group, interruption) == 0) {
    plan.hit_group.clear();
    return;
  }
  plan.hit_begin.assign(samples.begin().begin(), samples.begin().end());
  plan.hit_positions.assign(samples.positions().begin(), samples.positions().end());
}

}  // namespace

void plan_loss(const LossRequest& request, const CandidateView& candidates, LossPlan& plan) {
  plan.candidates = candidates;
  list_entries(request, plan);
  const std::span<const std::int64_t> labels =
      plan.listed ? std::span<const std::int64_t>(plan.entries)
                  : std::span(request.targets.ids, static_cast<std::size_t>(request.targets.count(request.batch)));
  list_groups(request, plan);
  find_hits(request, labels, plan);
  plan.rows.ids.clear();
  if (!request.wanted.rows()) return;
  cpu::plan_rows(labels, {candidates.sampled, static_cast<std::size_t>(request.negatives.total())}, plan.rows);
}

}  // namespace fastnce::cpu
