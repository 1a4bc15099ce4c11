// Sampled classes that are true classes of an example.
#pragma once

#include <cstdint>
#include <memory_resource>
#include <span>
#include <utility>
#include <vector>

#include "cpu/runtime/hash.h"
#include "cpu/runtime/interrupt.h"
#include "cpu/runtime/workspace.h"

namespace fastnce::cpu {

// Where each class stands among the samples: group g, one of the distinct classes, at positions()[begin()[g] ..
// begin()[g + 1]), ascending. All labels of a class share its list, so that hits take no memory of their own: there may
// be B S of them.
class SamplePositions {
 public:
  static constexpr std::int64_t kNoGroup = -1;

  SamplePositions(std::span<const std::int64_t> sampled, Interruption& interruption)
      : slots_(buckets_for(sampled.size()), kNoGroup, call_memory()), positions_(sampled.size(), call_memory()) {
    std::pmr::vector<std::int64_t> group(sampled.size(), call_memory());
    for_each(sampled, interruption, [&](std::size_t s) {
      std::int64_t& found = slots_[slot_of(sampled[s])];
      if (found == kNoGroup) {
        found = std::ssize(ids_);
        ids_.push_back(sampled[s]);
        begin_.push_back(0);
      }
      group[s] = found;
      ++begin_[static_cast<std::size_t>(found)];
    });
    std::int64_t before = 0;
    for (std::int64_t& count : begin_) before += std::exchange(count, before);
    // Each group's begin moves to its end, which is where the next one begins.
    for_each(sampled, interruption, [&](std::size_t s) {
      positions_[static_cast<std::size_t>(begin_[static_cast<std::size_t>(group[s])]++)] = static_cast<std::int64_t>(s);
    });
    begin_.insert(begin_.begin(), 0);
  }

  // Writes the group of each label's class, or kNoGroup, and returns the number of hits.
  template <class Groups>
  std::int64_t groups_of(std::span<const std::int64_t> labels, Groups& groups, Interruption& interruption) const {
    groups.resize(labels.size());
    std::int64_t hits = 0;
    for_each(labels, interruption, [&](std::size_t i) {
      const std::int64_t group = slots_[slot_of(labels[i])];
      groups[i] = group;
      if (group != kNoGroup) hits += std::ssize(of_group(group));
    });
    return hits;
  }

  std::span<const std::int64_t> begin() const { return begin_; }
  std::span<const std::int64_t> positions() const { return positions_; }
  std::span<const std::int64_t> of_group(std::int64_t group) const {
    const auto g = static_cast<std::size_t>(group);
    return positions().subspan(static_cast<std::size_t>(begin_[g]),
                               static_cast<std::size_t>(begin_[g + 1] - begin_[g]));
  }

 private:
  static std::size_t buckets_for(std::size_t count) {
    std::size_t buckets = 16;
    while (buckets < 2 * count) buckets *= 2;
    return buckets;
  }

  // Where the class is, or would be.
  std::size_t slot_of(std::int64_t id) const {
    std::size_t at = hash_slot(id, slots_.size());
    while (slots_[at] != kNoGroup && ids_[static_cast<std::size_t>(slots_[at])] != id)
      at = (at + 1) & (slots_.size() - 1);
    return at;
  }

  template <class Step>
  static void for_each(std::span<const std::int64_t> ids, Interruption& interruption, const Step& step) {
    constexpr std::int64_t kAtOnce = 1 << 16;  // each a cache miss or two
    in_parts({0, std::ssize(ids)}, kAtOnce, interruption, [&](Range part) {
      for (std::int64_t i = part.begin; i < part.end; ++i) step(static_cast<std::size_t>(i));
    });
    interruption.check();
  }

  std::pmr::vector<std::int64_t> slots_;               // groups by the hash of their class
  std::pmr::vector<std::int64_t> ids_{call_memory()};  // the class of a group
  std::pmr::vector<std::int64_t> begin_{call_memory()};
  std::pmr::vector<std::int64_t> positions_;
};

}  // namespace fastnce::cpu
