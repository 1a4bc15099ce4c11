// How often classes are expected among samples, on threads.
#include <algorithm>
#include <functional>

#include "cpu/runtime/interrupt.h"
#include "cpu/runtime/parallel.h"
#include "cpu/sampler/sampler.h"
#include "cpu/sampler/sampler_kernels.h"
#include "math/distribution/registry.h"

namespace fastnce::cpu {

namespace {

constexpr double kCountsPerThread = 8192;  // a count takes some 8 ns
// Between two polls for an interrupt, where each step may be a cache miss.
constexpr std::int64_t kStepsAtOnce = std::int64_t{1} << 16;

// Writes the probability of each class in one draw.
template <class D>
void probabilities_of(const D& distribution, std::span<const std::int64_t> ids, float* p) {
  for (std::size_t i = 0; i < ids.size(); ++i) p[i] = static_cast<float>(distribution.probability(ids[i]));
}

void probabilities_of(const math::LogUniform& distribution, std::span<const std::int64_t> ids, float* p) {
  constexpr std::int64_t kOneDraw = 1;
  sampler_kernels(current_isa())
      .log_uniform_counts(ids.data(), std::ssize(ids), distribution.log_range, kOneDraw, kOneDraw, p);
}

template <class D>
void count_in_set(const D& distribution, std::int64_t num_sampled, const DrawnSet& set,
                  std::span<const std::int64_t> ids, float* counts) {
  probabilities_of(distribution, ids, counts);
  // Classes of uniform and young learned distributions have one probability.
  const bool all_same = std::adjacent_find(counts, counts + ids.size(), std::not_equal_to<>()) == counts + ids.size();
  const std::int64_t different = all_same ? std::min<std::int64_t>(std::ssize(ids), 1) : std::ssize(ids);
  sampler_kernels(current_isa()).counts(counts, different, set.left, num_sampled, set.tries, counts);
  if (all_same) std::fill_n(counts, ids.size(), ids.empty() ? 0.0f : counts[0]);
}

// In one pass.
void count_in_set(const math::LogUniform& distribution, std::int64_t num_sampled, const DrawnSet& set,
                  std::span<const std::int64_t> ids, float* counts) {
  if (set.left != 1.0) return count_in_set<math::LogUniform>(distribution, num_sampled, set, ids, counts);
  sampler_kernels(current_isa())
      .log_uniform_counts(ids.data(), std::ssize(ids), distribution.log_range, num_sampled, set.tries, counts);
}

void count_in_set(const math::All&, std::int64_t, const DrawnSet&, std::span<const std::int64_t> ids, float* counts) {
  std::fill_n(counts, ids.size(), 1.0f);
}

}  // namespace

void exact_probabilities(const Distribution& distribution, std::span<const std::int64_t> ids, double* p) {
  math::with_distribution(distribution, [&](const auto& known) {
    for (std::size_t i = 0; i < ids.size(); ++i) p[i] = known.exact_probability(ids[i]);
  });
}

void expected_counts(const SamplerParams& params, std::span<const DrawnSet> sets, const ClassLists& lists,
                     float* counts) {
  const std::int64_t* const end = lists.offsets + sets.size() + 1;
  const std::int64_t count = end[-1];
  current_isa();  // may throw: not inside the region
  Interruption interruption;
  math::with_distribution(params.distribution, [&](const auto& distribution) {
    parallel(threads_for(static_cast<double>(count), kCountsPerThread), [&](const Team& team) {
      in_parts(team.share(count), kStepsAtOnce, interruption, [&](Range part) {
        auto set = static_cast<std::size_t>(std::upper_bound(lists.offsets, end, part.begin) - lists.offsets - 1);
        for (std::int64_t begin = part.begin; begin < part.end; ++set) {
          const std::int64_t size = std::min(lists.offsets[set + 1], part.end) - begin;
          count_in_set(distribution, params.num_sampled, sets[set], {lists.ids + begin, static_cast<std::size_t>(size)},
                       counts + begin);
          begin += size;
        }
      });
    });
  });
  interruption.check();
}

}  // namespace fastnce::cpu
