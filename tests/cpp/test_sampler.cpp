#include "fastnce/sampler.h"

#include <gtest/gtest.h>

#include <unordered_set>

#include "fastnce/config.h"
#include "math/log_uniform.h"

namespace fastnce {
namespace {

struct Samples {
  std::vector<std::int64_t> ids;
  std::int64_t tries;
  bool operator==(const Samples&) const = default;
};

Samples sample(const LogUniformParams& params) {
  Samples samples{std::vector<std::int64_t>(static_cast<std::size_t>(params.num_sampled)), 0};
  samples.tries = log_uniform_sample(params, samples.ids.data());
  return samples;
}

// The definition: walk through the draws, keep what is new.
Samples walk(const LogUniformParams& p) {
  const math::PhiloxCounter start = math::log_uniform_stream_start(p.seed2, p.num_sampled, p.call);
  const double log_range = math::log_uniform_log_range(p.range_max);
  std::unordered_set<std::int64_t> seen;
  Samples samples{};
  while (std::ssize(samples.ids) < p.num_sampled) {
    const std::uint64_t draw = static_cast<std::uint64_t>(samples.tries++);
    const math::PhiloxBlock block = math::philox4x32(p.seed, math::advanced(start, draw / 2));
    const std::int64_t id = math::log_uniform_draw(block, static_cast<int>(draw % 2), log_range, p.range_max);
    if (!p.unique || seen.insert(id).second) samples.ids.push_back(id);
  }
  return samples;
}

TEST(LogUniformSample, EqualsTheSequentialWalkForAnyNumberOfThreads) {
  const LogUniformParams cases[] = {
      {.range_max = 50'000, .num_sampled = 64, .seed = 1, .seed2 = 2},
      {.range_max = 1, .num_sampled = 1, .seed = 1, .seed2 = 2},
      {.range_max = 800'000, .num_sampled = 8192, .seed = 3, .seed2 = 4, .call = 5},  // table of seen classes
      // Enough for several threads, from here on.
      {.range_max = 1'000'000'000, .num_sampled = 250'000, .seed = 3, .seed2 = 4},  // table
      {.range_max = 400'000, .num_sampled = 250'000, .seed = 5, .seed2 = 6},        // bitmap
      {.range_max = 70'000, .num_sampled = 70'000, .seed = 5, .seed2 = 6},          // every class
      {.range_max = std::int64_t{1} << 62, .num_sampled = 250'000, .seed = 7, .seed2 = 8},
      {.range_max = 1000, .num_sampled = 250'000, .unique = false, .seed = 9, .seed2 = 10},
  };
  const int threads_before = num_threads();
  for (const LogUniformParams& params : cases) {
    const Samples expected = walk(params);
    for (const int threads : {1, 2, 7}) {
      set_num_threads(threads);
      EXPECT_EQ(sample(params), expected)
          << "V = " << params.range_max << ", S = " << params.num_sampled << ", threads = " << threads;
    }
  }
  set_num_threads(threads_before);
}

TEST(AccidentalHits, AreReportedByExampleThenColumnThenPosition) {
  const std::int64_t labels[] = {5, 1, 1, 8};  // [2, 2]
  const std::int64_t sampled[] = {1, 5, 1};
  const std::vector<AccidentalHit> hits = accidental_hits(labels, 2, sampled);
  ASSERT_EQ(hits.size(), 5u);
  const std::int64_t expected[][2] = {{0, 1}, {0, 0}, {0, 2}, {1, 0}, {1, 2}};
  for (std::size_t i = 0; i < hits.size(); ++i) {
    EXPECT_EQ(hits[i].example, expected[i][0]);
    EXPECT_EQ(hits[i].position, expected[i][1]);
  }
}

}  // namespace
}  // namespace fastnce
