// The examples of a pass over all classes: which take part, their labels, what they leave out.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cpu/all_classes/sweep.h"
#include "cpu/runtime/parallel.h"
#include "fastnce/evaluate.h"

namespace fastnce::cpu {

struct SweptExamples {
  std::vector<std::int64_t> rows;           // of the batch, ascending
  std::vector<std::int64_t> labels;         // the entries: without padding, ascending in each example; empty of scores
  std::vector<std::int64_t> label_at;       // where the caller's arrays have an entry
  std::vector<std::int64_t> label_offsets;  // [examples + 1]
  std::vector<std::int64_t> excluded;       // in lists, one for each example; empty if none excludes anything
  std::vector<std::int64_t> excluded_offsets;

  std::int64_t count() const { return std::ssize(rows); }
  StripLabels labels_of(Range strip) const {
    return {label_offsets.data() + strip.begin, labels.empty() ? nullptr : labels.data() + label_offsets[strip.begin]};
  }
  IdLists excluded_of(Range strip) const {
    if (excluded.empty()) return {};
    return {excluded_offsets.data() + strip.begin, excluded.data()};
  }
};

// All of the batch, without labels.
SweptExamples examples_of(std::int64_t batch, const ClassLists& exclude);

// Those that have a label, here or in another part, or, dense and with T = 0, are not meant to have one.
// `excludes_labels`: lists of excluded classes hold the example's labels, too.
SweptExamples examples_of(std::int64_t batch, const Targets& targets, const ClassLists& exclude, bool excludes_labels,
                          const OtherParts& parts = {});

// Those with scores. An entry is a score, without a label.
SweptExamples examples_of(std::int64_t batch, const ScoreLists& lists, const ClassLists& exclude);

// Sorts the lists of excluded classes of some examples.
void sort_excluded(SweptExamples& examples, Range part);

}  // namespace fastnce::cpu
