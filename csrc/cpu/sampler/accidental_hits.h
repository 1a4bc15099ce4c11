// Sampled classes that are true classes of an example.
#pragma once

#include <cstdint>
#include <memory_resource>
#include <span>
#include <vector>

#include "cpu/runtime/hash.h"
#include "cpu/runtime/interrupt.h"
#include "cpu/runtime/workspace.h"

namespace fastnce::cpu {

// Calls visit(label, position), two indices, for all hits, in the order of fastnce/sampler.h.
template <class Visitor>
void visit_accidental_hits(std::span<const std::int64_t> labels, std::span<const std::int64_t> sampled, Visitor visit) {
  // A chained hash table over the samples: one look-up per label, whatever B S is. Inserted back to front, so that each
  // chain lists positions in ascending order.
  constexpr std::int64_t kEnd = -1;
  std::size_t buckets = 16;
  while (buckets < 2 * sampled.size()) buckets *= 2;
  std::pmr::vector<std::int64_t> head(buckets, kEnd, call_memory());
  std::pmr::vector<std::int64_t> next(sampled.size(), call_memory());
  for (std::size_t s = sampled.size(); s-- > 0;) {
    std::int64_t& first = head[hash_slot(sampled[s], buckets)];
    next[s] = first;
    first = static_cast<std::int64_t>(s);
  }
  constexpr std::size_t kLabelsAtOnce = 65536;
  Interruption interruption;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (i % kLabelsAtOnce == 0) interruption.check();
    for (std::int64_t s = head[hash_slot(labels[i], buckets)]; s != kEnd; s = next[s]) {
      if (sampled[s] == labels[i]) visit(static_cast<std::int64_t>(i), s);
    }
  }
}

}  // namespace fastnce::cpu
