#include "cpu/accidental_hits.h"

#include "cpu/hash.h"

namespace fastnce::cpu {

std::vector<AccidentalHit> accidental_hits(std::span<const std::int64_t> labels, std::int64_t num_true,
                                           std::span<const std::int64_t> sampled) {
  // A chained hash table over the samples: one look-up per label, whatever B S is. Inserted back to front, so that each
  // chain lists positions in ascending order.
  constexpr std::int64_t kEnd = -1;
  std::size_t buckets = 16;
  while (buckets < 2 * sampled.size()) buckets *= 2;
  std::vector<std::int64_t> head(buckets, kEnd);
  std::vector<std::int64_t> next(sampled.size());
  for (std::size_t s = sampled.size(); s-- > 0;) {
    std::int64_t& first = head[hash_slot(sampled[s], buckets)];
    next[s] = first;
    first = static_cast<std::int64_t>(s);
  }
  std::vector<AccidentalHit> hits;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    for (std::int64_t s = head[hash_slot(labels[i], buckets)]; s != kEnd; s = next[s]) {
      if (sampled[s] == labels[i]) hits.push_back({static_cast<std::int64_t>(i) / num_true, s});
    }
  }
  return hits;
}

}  // namespace fastnce::cpu
