#include "cpu/accidental_hits.h"

namespace fastnce::cpu {

std::vector<AccidentalHit> accidental_hits(std::span<const std::int64_t> labels, std::int64_t num_true,
                                           std::span<const std::int64_t> sampled) {
  // A chained hash table over the samples: one look-up per label, whatever B S is. Inserted back to front, so that each
  // chain lists positions in ascending order.
  constexpr std::int32_t kEnd = -1;
  std::size_t buckets = 16;
  while (buckets < 2 * sampled.size()) buckets *= 2;
  const auto bucket_of = [&](std::int64_t id) {
    return ((static_cast<std::uint64_t>(id) * 0x9E3779B97F4A7C15u) >> 20) & (buckets - 1);
  };
  std::vector<std::int32_t> head(buckets, kEnd);
  std::vector<std::int32_t> next(sampled.size());
  for (std::size_t s = sampled.size(); s-- > 0;) {
    std::int32_t& first = head[bucket_of(sampled[s])];
    next[s] = first;
    first = static_cast<std::int32_t>(s);
  }
  std::vector<AccidentalHit> hits;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    for (std::int32_t s = head[bucket_of(labels[i])]; s != kEnd; s = next[s]) {
      if (sampled[s] == labels[i]) hits.push_back({static_cast<std::int64_t>(i) / num_true, s});
    }
  }
  return hits;
}

}  // namespace fastnce::cpu
