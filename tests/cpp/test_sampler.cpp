#include "fastnce/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <unordered_set>

#include "fastnce/config.h"
#include "math/candidate_stream.h"
#include "math/distribution/registry.h"

namespace fastnce {
namespace {

struct Samples {
  std::vector<std::int64_t> ids;
  std::int64_t tries;
  bool operator==(const Samples&) const = default;
};

Samples sample(const SamplerParams& params) {
  Samples samples{std::vector<std::int64_t>(static_cast<std::size_t>(params.num_sampled)), 0};
  samples.tries = sample_candidates(params, samples.ids.data());
  return samples;
}

// The definition: read word by word, draw an integer again while it is rejected, keep what is new.
template <class D>
Samples walk(const SamplerParams& p, const D& distribution) {
  const math::CandidateStream stream{p.seed, math::candidate_stream_start(p.seed2, p.num_sampled, p.call)};
  std::unordered_set<std::int64_t> seen;
  Samples samples{};
  std::uint64_t at = 0;
  const auto read = [&](int count, std::uint32_t* words) {
    for (int i = 0; i < count; ++i) words[i] = stream.word(at++);
  };
  while (std::ssize(samples.ids) < p.num_sampled) {
    std::uint32_t fixed[2] = {}, integer[2] = {};
    read(D::kFixedWords, fixed);
    read(D::kRetriedWords, integer);
    if constexpr (D::kRetriedWords > 0) {
      while (!distribution.accepts(integer)) read(D::kRetriedWords, integer);
    }
    ++samples.tries;
    const std::int64_t id = distribution.id(fixed, integer);
    if (!p.unique || seen.insert(id).second) samples.ids.push_back(id);
  }
  return samples;
}

Samples walk(const SamplerParams& p, const math::All&) {
  Samples samples{{}, p.num_sampled};
  for (std::int64_t i = 0; i < p.num_sampled; ++i) samples.ids.push_back(i);
  return samples;
}

void expect_the_walk(const SamplerParams& params) {
  const Samples expected = math::with_distribution(
      params.distribution, [&](const auto& distribution) { return walk(params, distribution); });
  const int threads_before = num_threads();
  for (const int threads : {1, 2, 7}) {
    set_num_threads(threads);
    EXPECT_EQ(sample(params), expected) << "kind " << static_cast<int>(params.distribution.kind)
                                        << ", V = " << params.distribution.range_max << ", S = " << params.num_sampled
                                        << ", threads = " << threads;
  }
  set_num_threads(threads_before);
}

TEST(SampleCandidates, EqualsTheSequentialWalkForAnyNumberOfThreads) {
  const SamplerParams cases[] = {
      {.distribution = {.range_max = 50'000}, .num_sampled = 64, .seed = 1, .seed2 = 2},
      {.distribution = {.range_max = 1}, .num_sampled = 1, .seed = 1, .seed2 = 2},
      {.distribution = {.range_max = 800'000}, .num_sampled = 8192, .seed = 3, .seed2 = 4, .call = 5},  // table
      // Enough for several threads, from here on.
      {.distribution = {.range_max = 1'000'000'000}, .num_sampled = 250'000, .seed = 3, .seed2 = 4},  // table
      {.distribution = {.range_max = 400'000}, .num_sampled = 250'000, .seed = 5, .seed2 = 6},        // bitmap
      {.distribution = {.range_max = 70'000}, .num_sampled = 70'000, .seed = 5, .seed2 = 6},          // every class
      {.distribution = {.range_max = std::int64_t{1} << 62}, .num_sampled = 250'000, .seed = 7, .seed2 = 8},
      {.distribution = {.range_max = 1000}, .num_sampled = 250'000, .unique = false, .seed = 9, .seed2 = 10},
  };
  for (const SamplerParams& params : cases) expect_the_walk(params);
}

TEST(SampleCandidates, OfAllAreTheClassesInOrder) {
  expect_the_walk({.distribution = distribution_named("all", 1000), .num_sampled = 1000});
}

// Up to a half of all integers is rejected, just above a power of two.
TEST(SampleCandidates, UniformEqualsTheWalkHoweverManyIntegersAreRejected) {
  for (const std::int64_t v : {std::int64_t{1}, std::int64_t{1000}, std::int64_t{1} << 40, (std::int64_t{1} << 40) + 1,
                               (std::int64_t{1} << 60) + 1, (std::int64_t{1} << 62) + 1, INT64_MAX}) {
    for (const std::int64_t s : {std::int64_t{1}, std::int64_t{130}, std::int64_t{100'000}}) {
      for (const bool unique : {true, false}) {
        if (unique && s > v) continue;
        expect_the_walk({.distribution = distribution_named("uniform", v),
                         .num_sampled = s,
                         .unique = unique,
                         .seed = 11,
                         .seed2 = static_cast<std::uint64_t>(s)});
      }
    }
  }
}

TEST(SampleCandidates, LearnedUnigramEqualsTheWalkHoweverManyIntegersAreRejected) {
  // All weights 1: no table, so that V may be large.
  for (const std::int64_t v : {std::int64_t{3}, std::int64_t{1'000'003}, std::int64_t{1'500'000'001},
                               (std::int64_t{1} << 30) + 1, kMostTabledClasses}) {
    for (const bool unique : {true, false}) {
      expect_the_walk({.distribution = distribution_named("learned_unigram", v),
                       .num_sampled = unique ? std::min<std::int64_t>(v, 70'001) : 100'000,
                       .unique = unique,
                       .seed = 13,
                       .seed2 = 14});
    }
  }
}

std::vector<float> zipf_weights(std::size_t classes, std::size_t reserved) {
  std::vector<float> weights(classes, 0.0f);
  for (std::size_t k = reserved; k < classes; ++k) weights[k] = 1.0f / static_cast<float>(k - reserved + 1);
  return weights;
}

// With two million classes one integer in some thousands is rejected, and all draws behind it move by an odd number of
// words.
TEST(SampleCandidates, UnigramEqualsTheWalkHoweverManyIntegersAreRejected) {
  for (const std::size_t v : {std::size_t{1}, std::size_t{7}, std::size_t{4096}, std::size_t{1'999'999}}) {
    const UnigramTable table(zipf_weights(v, v / 3));
    const std::int64_t drawable = table.distribution().unigram.reachable;
    for (const std::int64_t s : {std::int64_t{1}, std::int64_t{2000}, std::int64_t{150'000}}) {
      for (const bool unique : {true, false}) {
        if (unique && 2 * s > drawable) continue;
        expect_the_walk(
            {.distribution = table.distribution(), .num_sampled = s, .unique = unique, .seed = 15, .seed2 = 16});
      }
    }
  }
}

TEST(LearnedUnigram, DrawsTheClassWhoseIntervalHoldsTheInteger) {
  for (const std::int64_t v : {1, 31, 32, 33, 64, 1000, 4097}) {
    LearnedWeights weights(v);
    std::vector<std::int64_t> classes;
    for (std::int64_t i = 0; i < 3 * v; ++i) classes.push_back(i * i * 7 % v);
    weights.learn(classes);
    const LearnedWeights restored(std::vector<std::int32_t>(weights.weights().begin(), weights.weights().end()));
    for (const Distribution& given : {weights.distribution(), restored.distribution()}) {
      const math::LearnedUnigram distribution(given);
      ASSERT_EQ(distribution.total, 4 * v);
      std::uint32_t integer = static_cast<std::uint32_t>(4 * v) * 1000;
      for (std::int64_t k = 0; k < v; ++k) {
        for (std::int32_t i = 0; i < weights.weights()[k]; ++i, ++integer) {
          ASSERT_EQ(distribution.id(nullptr, &integer), k) << "V = " << v;
        }
      }
    }
  }
}

TEST(LearnedUnigram, LearnsUntilTheTotalIsTheLargestInt32) {
  LearnedWeights weights(std::vector<std::int32_t>{static_cast<std::int32_t>(kMostTabledClasses) - 2, 1});
  const std::int64_t classes[] = {1, 1, 0};
  weights.learn(classes);
  EXPECT_EQ(weights.distribution().learned.total, kMostTabledClasses);
  EXPECT_EQ(weights.weights()[1], 2);
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
