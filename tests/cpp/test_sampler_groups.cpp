// Sets of samples for groups of examples: each is that of a call of its own.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "core/candidates.h"
#include "fastnce/config.h"
#include "fastnce/fastnce.h"

namespace fastnce {
namespace {

constexpr std::int64_t kBatch = 6, kPerExample = 2, kClasses = 40, kSampled = 7;
const std::vector<std::int64_t> kLabels = {3, 0, 39, 1, 7, 7, 2, 20, 11, 0, 1, 38};

SamplerParams params_of(const char* name, bool unique, std::int64_t num_sampled = kSampled) {
  return {.distribution = distribution_named(name, kClasses),
          .num_sampled = num_sampled,
          .unique = unique,
          .seed = 5,
          .seed2 = 6,
          .call = 3};
}

struct Samples {
  std::vector<std::int64_t> ids;
  std::vector<float> true_counts, sampled_counts;
  bool operator==(const Samples&) const = default;
};

Samples run(const SampleRequest& request) {
  const auto sampled = static_cast<std::size_t>(request.groups * request.num_sampled());
  Samples samples{std::vector<std::int64_t>(sampled), std::vector<float>(request.true_classes.size()),
                  std::vector<float>(sampled)};
  sample(request, samples.ids.data(), samples.true_counts.data(), samples.sampled_counts.data());
  return samples;
}

void append(Samples& to, const Samples& more) {
  to.ids.insert(to.ids.end(), more.ids.begin(), more.ids.end());
  to.true_counts.insert(to.true_counts.end(), more.true_counts.begin(), more.true_counts.end());
  to.sampled_counts.insert(to.sampled_counts.end(), more.sampled_counts.begin(), more.sampled_counts.end());
}

// Group by group, each as call number `call` G + g.
Samples one_by_one(const std::vector<SamplerParams>& sources, std::int64_t groups) {
  Samples all;
  const std::int64_t served = kBatch / groups;
  for (std::int64_t g = 0; g < groups; ++g) {
    std::vector<SamplerParams> own = sources;
    for (SamplerParams& source : own) source.call = source.call * static_cast<std::uint64_t>(groups) + g;
    const auto begin = kLabels.begin() + g * served * kPerExample;
    const std::vector<std::int64_t> labels(begin, begin + served * kPerExample);
    append(all, run({.sources = own, .batch = served, .true_classes = labels}));
  }
  return all;
}

TEST(SampleRequest, DrawsWhatOneCallForEachGroupDraws) {
  for (const bool unique : {false, true}) {
    for (const std::vector<SamplerParams>& sources :
         {std::vector{params_of("log_uniform", unique)}, std::vector{params_of("uniform", unique)},
          std::vector{params_of("uniform", unique, 4), params_of("log_uniform", true, 9)},
          std::vector{params_of("all", unique, kClasses)}}) {
      for (const std::int64_t groups : {1, 2, 3, 6}) {
        const Samples expected = one_by_one(sources, groups);
        EXPECT_EQ(run({.sources = sources, .batch = kBatch, .groups = groups, .true_classes = kLabels}), expected);
        EXPECT_EQ(expected.ids.size(), expected.sampled_counts.size());
      }
    }
  }
}

TEST(SampleRequest, CountsListsOfLabelsAsThoseOfTheirGroup) {
  const std::vector<SamplerParams> sources{params_of("log_uniform", true)};
  const std::vector<std::int64_t> offsets = {0, 2, 4, 6, 8, 10, 12};
  const SampleRequest dense{.sources = sources, .batch = kBatch, .groups = 3, .true_classes = kLabels};
  SampleRequest listed = dense;
  listed.true_offsets = offsets.data();
  EXPECT_EQ(run(listed), run(dense));
}

// One list for each of the examples.
TEST(SampleRequest, LeavesOutWhatIsExcludedOnAnyNumberOfThreads) {
  const std::int64_t batch = 2000;
  std::vector<std::int64_t> labels(batch, 1), excluded, offsets{0};
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t k = 0; k < b % 30; ++k) excluded.push_back(k % 20);
    offsets.push_back(std::ssize(excluded));
  }
  for (const bool unique : {false, true}) {
    const std::vector<SamplerParams> sources{params_of("log_uniform", unique)};
    const SampleRequest request{.sources = sources,
                                .batch = batch,
                                .groups = batch,
                                .true_classes = labels,
                                .exclude = {excluded.data(), offsets.data()}};
    const int threads = num_threads();
    set_num_threads(1);
    const Samples expected = run(request);
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::int64_t s = 0; s < kSampled; ++s) {
        EXPECT_GE(expected.ids[b * kSampled + s], std::min<std::int64_t>(b % 30, 20));
      }
    }
    set_num_threads(3);
    EXPECT_EQ(run(request), expected);
    set_num_threads(threads);
  }
}

std::string message_of(const SampleRequest& request) {
  try {
    validate(request);
  } catch (const InvalidValue& error) {
    return error.what();
  }
  return "no InvalidValue";
}

TEST(SampleRequest, IsCheckedBeforeItDraws) {
  const std::vector<SamplerParams> sources{params_of("uniform", true)}, all{params_of("all", true, kClasses)};
  const std::vector<std::int64_t> offsets(kBatch + 1, 0);
  const SampleRequest good{.sources = sources, .batch = kBatch, .true_classes = kLabels};
  const auto message = [&](const std::function<void(SampleRequest&)>& spoil) {
    SampleRequest request = good;
    spoil(request);
    return message_of(request);
  };
  EXPECT_EQ(message_of(good), "no InvalidValue");
  EXPECT_EQ(message([](auto& r) { r.sources = {}; }), "sources: expected at least one");
  EXPECT_EQ(message([](auto& r) { r.groups = 0; }), "num_groups = 0: expected at least 1");
  EXPECT_EQ(message([](auto& r) { r.groups = 4; }), "num_groups = 4: expected a divisor of the batch, B = 6");
  EXPECT_EQ(message([](auto& r) { r.batch = 5; }),
            "true_classes: expected as many for each of the B = 5 examples, not 12 in all");
  EXPECT_EQ(message([&](auto& r) { r.true_offsets = offsets.data(); }),
            "true_classes.offsets[6] = 0: expected the number of values, 12");
  EXPECT_EQ(message([&](auto& r) { r.exclude.offsets = offsets.data(); }),
            "num_groups = 1: expected the number of examples, B = 6, to draw again what exclude lists for each");
  EXPECT_EQ(message([&](auto& r) {
              r.sources = all;
              r.groups = kBatch;
              r.exclude.offsets = offsets.data();
            }),
            "exclude: expected no lists where all classes are candidates");
}

// What a loss draws for itself: the logarithms of the counts of each label's own group, whatever its padding is.
TEST(Candidates, AreDrawnForEachGroup) {
  constexpr std::int64_t kPadding = -1, kGroups = 3;
  const SamplerParams sampler = params_of("log_uniform", true);
  const std::vector<SamplerParams> sources{sampler};
  const Samples expected = run({.sources = sources, .batch = kBatch, .groups = kGroups, .true_classes = kLabels});
  std::vector<std::int64_t> labels = kLabels;
  labels[3] = labels[8] = kPadding;
  LossRequest request;
  request.batch = kBatch;
  request.num_classes = kClasses;
  request.targets = {.per_example = kPerExample, .ids = labels.data(), .padding = kPadding};
  request.negatives = {.groups = kGroups, .count = kSampled, .sampler = sampler};
  Candidates candidates;
  candidates.prepare(request);
  const auto* const true_log_q = static_cast<const float*>(candidates.true_log_q());
  const auto* const sampled_log_q = static_cast<const float*>(candidates.sampled_log_q());
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] == kPadding) continue;
    EXPECT_EQ(true_log_q[i], std::log(expected.true_counts[i])) << i;
  }
  for (std::size_t i = 0; i < expected.ids.size(); ++i) {
    EXPECT_EQ(candidates.sampled()[i], expected.ids[i]);
    EXPECT_EQ(sampled_log_q[i], std::log(expected.sampled_counts[i]));
  }
}

// The same through plan() and run(): as if the candidates were given.
TEST(Candidates, OfEachGroupAreThoseOfTheLoss) {
  constexpr std::int64_t kGroups = 3, kDim = 5;
  const std::vector<SamplerParams> sources{params_of("log_uniform", true)};
  const Samples drawn = run({.sources = sources, .batch = kBatch, .groups = kGroups, .true_classes = kLabels});
  std::vector<float> weights, inputs;
  for (std::int64_t i = 0; i < kClasses * kDim; ++i) weights.push_back(std::sin(static_cast<float>(i)));
  for (std::int64_t i = 0; i < kBatch * kDim; ++i) inputs.push_back(std::cos(static_cast<float>(i)));
  const Shard shard{weights.data(), kClasses, kDim};
  LossRequest request;
  request.batch = kBatch;
  request.dim = kDim;
  request.num_classes = kClasses;
  request.weights = {.shards = {&shard, 1}};
  request.inputs = inputs.data();
  request.inputs_stride = kDim;
  request.targets = {.per_example = kPerExample, .ids = kLabels.data()};
  request.negatives = {.groups = kGroups, .count = kSampled, .sampler = sources[0]};
  LossRequest given = request;
  given.targets.expected_count = drawn.true_counts.data();
  given.negatives = {
      .groups = kGroups, .count = kSampled, .ids = drawn.ids.data(), .expected_count = drawn.sampled_counts.data()};
  std::vector<float> loss(kBatch), expected(kBatch);
  run(plan(request), {.loss = loss.data()});
  run(plan(given), {.loss = expected.data()});
  EXPECT_EQ(loss, expected);
}

}  // namespace
}  // namespace fastnce
