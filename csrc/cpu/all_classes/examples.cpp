#include "cpu/all_classes/examples.h"

#include <algorithm>
#include <numeric>
#include <tuple>
#include <utility>

namespace fastnce::cpu {

namespace {

void add_excluded(const ClassLists& exclude, bool excludes_labels, SweptExamples& examples) {
  if (exclude.offsets == nullptr && !excludes_labels) return;
  examples.excluded_offsets.assign(1, 0);
  for (std::int64_t b = 0; b < examples.count(); ++b) {
    const auto add = [&](const std::int64_t* ids, std::int64_t begin, std::int64_t end) {
      examples.excluded.insert(examples.excluded.end(), ids + begin, ids + end);
    };
    if (excludes_labels) add(examples.labels.data(), examples.label_offsets[b], examples.label_offsets[b + 1]);
    const std::int64_t row = examples.rows[b];
    if (exclude.offsets != nullptr) add(exclude.ids, exclude.offsets[row], exclude.offsets[row + 1]);
    examples.excluded_offsets.push_back(std::ssize(examples.excluded));
  }
}

// Those of the last example, which are not counted yet.
void sort_labels(SweptExamples& examples) {
  const std::int64_t first = examples.label_offsets.back();
  if (std::is_sorted(examples.labels.begin() + first, examples.labels.end())) return;
  std::vector<std::pair<std::int64_t, std::int64_t>> entries;
  for (std::int64_t e = first; e < std::ssize(examples.labels); ++e) {
    entries.emplace_back(examples.labels[e], examples.label_at[e]);
  }
  std::sort(entries.begin(), entries.end());
  for (std::int64_t e = first; e < std::ssize(examples.labels); ++e) {
    std::tie(examples.labels[e], examples.label_at[e]) = entries[e - first];
  }
}

}  // namespace

SweptExamples examples_of(std::int64_t batch, const ClassLists& exclude) {
  SweptExamples examples;
  examples.rows.resize(static_cast<std::size_t>(batch));
  std::iota(examples.rows.begin(), examples.rows.end(), std::int64_t{0});
  add_excluded(exclude, false, examples);
  return examples;
}

SweptExamples examples_of(std::int64_t batch, const Targets& targets, const ClassLists& exclude, bool excludes_labels,
                          const OtherParts& parts) {
  SweptExamples examples;
  examples.label_offsets.assign(1, 0);
  const bool without_labels = targets.offsets == nullptr && targets.per_example == 0;
  for (std::int64_t row = 0; row < batch; ++row) {
    for (std::int64_t at = targets.begin(row); at < targets.begin(row + 1); ++at) {
      if (targets.padding && targets.ids[at] == *targets.padding) continue;
      examples.labels.push_back(targets.ids[at]);
      examples.label_at.push_back(at);
    }
    const bool has_label = parts.label_count != nullptr ? parts.label_count[row] > 0
                                                        : std::ssize(examples.labels) > examples.label_offsets.back();
    if (!has_label && !without_labels) continue;
    sort_labels(examples);
    examples.rows.push_back(row);
    examples.label_offsets.push_back(std::ssize(examples.labels));
  }
  add_excluded(exclude, excludes_labels, examples);
  return examples;
}

SweptExamples examples_of(std::int64_t batch, const ScoreLists& lists, const ClassLists& exclude) {
  SweptExamples examples;
  examples.label_offsets.assign(1, 0);
  for (std::int64_t row = 0; row < batch; ++row) {
    if (lists.offsets[row + 1] == lists.offsets[row]) continue;
    examples.rows.push_back(row);
    examples.label_offsets.push_back(lists.offsets[row + 1]);
  }
  examples.label_at.resize(static_cast<std::size_t>(examples.label_offsets.back()));
  std::iota(examples.label_at.begin(), examples.label_at.end(), std::int64_t{0});
  add_excluded(exclude, false, examples);
  return examples;
}

void sort_excluded(SweptExamples& examples, Range part) {
  if (examples.excluded.empty()) return;
  for (std::int64_t b = part.begin; b < part.end; ++b) {
    const auto list = examples.excluded.begin() + examples.excluded_offsets[b];
    const auto end = examples.excluded.begin() + examples.excluded_offsets[b + 1];
    if (!std::is_sorted(list, end)) std::sort(list, end);
  }
}

}  // namespace fastnce::cpu
