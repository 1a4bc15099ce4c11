// How often classes are expected among samples, on threads.
#include <algorithm>

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

template <class D>
void count_expected(const D& distribution, std::int64_t num_sampled, std::int64_t tries,
                    std::span<const std::int64_t> ids, float* counts) {
  // Most classes of uniform and learned distributions have the probability of the one before.
  double last_probability = -1.0;
  float last_count = 0.0f;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const double probability = distribution.probability(ids[i]);
    if (probability != last_probability) {
      last_probability = probability;
      last_count = static_cast<float>(math::expected_count_of_any(probability, num_sampled, tries));
    }
    counts[i] = last_count;
  }
}

// Its counts are a kernel of each instruction set.
void count_expected(const math::LogUniform& distribution, std::int64_t num_sampled, std::int64_t tries,
                    std::span<const std::int64_t> ids, float* counts) {
  log_uniform_kernels(current_isa())
      .counts(ids.data(), std::ssize(ids), distribution.log_range, num_sampled, tries, counts);
}

void count_expected(const math::All&, std::int64_t, std::int64_t, std::span<const std::int64_t> ids, float* counts) {
  std::fill_n(counts, ids.size(), 1.0f);
}

// One draw, with replacement, is expected to give a class as often as its probability says.
template <class D>
void count_in_one_draw(const D& distribution, std::span<const std::int64_t> ids, float* counts) {
  count_expected(distribution, 1, 1, ids, counts);
}

template <class D>
void count_in_set(const D& distribution, std::int64_t num_sampled, const DrawnSet& set,
                  std::span<const std::int64_t> ids, float* counts) {
  if (set.left == 1.0) return count_expected(distribution, num_sampled, set.tries, ids, counts);
  count_in_one_draw(distribution, ids, counts);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    // `left` may be 0 or less where next to nothing is left, as a sum of rounded numbers.
    const double probability = static_cast<double>(counts[i]);
    const double redrawn = probability < set.left ? math::rounded_to_float32(probability / set.left) : 1.0;
    counts[i] = static_cast<float>(math::expected_count_of_any(redrawn, num_sampled, set.tries));
  }
}

}  // namespace

void probabilities(const Distribution& distribution, std::span<const std::int64_t> ids, float* p) {
  math::with_distribution(distribution, [&](const auto& known) { count_in_one_draw(known, ids, p); });
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
          count_in_set(distribution, params.num_sampled, sets[set],
                       {lists.ids + begin, static_cast<std::size_t>(size)}, counts + begin);
          begin += size;
        }
      });
    });
  });
  interruption.check();
}

}  // namespace fastnce::cpu
