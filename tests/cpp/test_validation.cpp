#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fastnce/fastnce.h"
#include "problem.h"

namespace fastnce {
namespace {

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const InvalidValue& error) {
    return error.what();
  }
  return "no InvalidValue";
}

SampleRequest one_example(const SamplerParams& params, std::span<const std::int64_t> true_classes) {
  return {.sources = {&params, 1}, .batch = 1, .true_classes = true_classes};
}

std::string message_with(const std::function<void(Problem<float>&)>& spoil) {
  Problem<float> p({.batch = 4, .num_true = 2, .num_sampled = 3, .dim = 2, .num_classes = 10});
  spoil(p);
  const std::string message = message_of([&] { p.run(); });
  EXPECT_EQ(p.loss[0], 1e6f) << "written in spite of the error";
  return message;
}

TEST(Validation, NamesTheLabelAndTheRange) {
  EXPECT_EQ(message_with([](auto& p) { p.labels[5] = 10; }), "labels[2, 1] = 10 is outside [0, num_classes = 10)");
  EXPECT_EQ(message_with([](auto& p) { p.labels[0] = -1; }), "labels[0, 0] = -1 is outside [0, num_classes = 10)");
}

TEST(Validation, NamesTheSampledCandidate) {
  EXPECT_EQ(message_with([](auto& p) { p.sampled[1] = 99; }),
            "sampled_candidates[1] = 99 is outside [0, num_classes = 10)");
}

TEST(Validation, WantsARowForEveryClass) {
  EXPECT_EQ(message_with([](auto& p) { p.request.num_classes = 11; }),
            "weights has 10 rows: expected at least num_classes = 11");
}

TEST(Validation, WantsShardsOfTheSizesThatThePartitionPrescribes) {
  EXPECT_EQ(message_with([](auto& p) {
              static Shard shards[2];
              shards[0] = {p.weights.data(), 4, 2};
              shards[1] = {p.weights.data() + 8, 6, 2};
              p.request.weights = {shards, Partition::kDiv};
            }),
            "weights[0] has 4 rows: expected 5, as partition_strategy 'div' lays 10 rows over 2 shards");
}

TEST(Validation, WantsArraysWhereThereAreElements) {
  EXPECT_EQ(message_with([](auto& p) { p.request.targets.ids = nullptr; }), "labels: expected an array, not null");
  EXPECT_EQ(message_with([](auto& p) { p.request.inputs = nullptr; }), "inputs: expected an array, not null");
  EXPECT_EQ(message_with([](auto& p) { p.request.negatives.ids = nullptr; }), "sampled: expected an array, not null");
  EXPECT_EQ(message_with([](auto& p) { p.request.targets.expected_count = nullptr; }),
            "true_count: expected an array, not null");
}

TEST(Validation, ExpectedCountsArePositive) {
  const std::string rest =
      ": expected a positive, finite float32 number, how often the class is expected among the samples";
  EXPECT_EQ(message_with([](auto& p) { p.true_count[5] = 0; }), "true_expected_count[2, 1] = 0" + rest);
  EXPECT_EQ(message_with([](auto& p) { p.sampled_count[0] = -2; }), "sampled_expected_count[0] = -2" + rest);
  EXPECT_EQ(message_with([](auto& p) { p.sampled_count[1] = NAN; }), "sampled_expected_count[1] = nan" + rest);
  EXPECT_EQ(message_with([](auto& p) { p.true_count[0] = INFINITY; }), "true_expected_count[0, 0] = inf" + rest);
}

TEST(Validation, WantsLabelsInWholeRowsForHits) {
  const std::int64_t labels[] = {1, 2, 3};
  EXPECT_EQ(message_of([&] { accidental_hits(labels, 0, labels); }),
            "num_true = 0: expected a divisor of the 3 labels");
  EXPECT_EQ(message_of([&] { accidental_hits(labels, 2, labels); }),
            "num_true = 2: expected a divisor of the 3 labels");
}

TEST(Validation, WantsAnArrayForWhatIsWanted) {
  EXPECT_EQ(message_with([](auto& p) { p.outputs.loss = nullptr; }), "loss: expected an array, not null");
  EXPECT_EQ(message_with([](auto& p) { p.outputs.grad_inputs = nullptr; }), "grad_inputs: expected an array, not null");
  EXPECT_EQ(message_with([](auto& p) { p.outputs.grad_weights = nullptr; }),
            "grad_weights: expected an array, not null");
  EXPECT_EQ(message_with([](auto& p) { p.outputs.grad_biases = nullptr; }), "grad_biases: expected an array, not null");
  EXPECT_EQ(message_with([](auto& p) { p.outputs.grad_weights_dtype = DType::kFloat64; }),
            "grad_weights_dtype: expected kFloat32, kFloat16 or kBFloat16, to match the compute dtype");
  EXPECT_EQ(message_with([](auto& p) { p.request.biases = {}; }),
            "biases: expected a table, since its gradient is asked for");
}

TEST(Validation, NamesPaddingWhereALabelIsNeitherThatNorAClass) {
  EXPECT_EQ(message_with([](auto& p) { p.labels[1] = -1, p.labels[5] = 10, p.request.targets.padding = -1; }),
            "labels[2, 1] = 10 is outside [0, num_classes = 10), and is not padding = -1");
}

TEST(Validation, WantsARangeThatHoldsTheUniqueSamples) {
  std::int64_t ids[3];
  EXPECT_EQ(message_of([&] { sample_candidates({.distribution = {.range_max = 2}, .num_sampled = 3}, ids); }),
            "num_sampled = 3 is larger than the number of classes, 2 (num_classes or range_max): expected at most 2, "
            "because samples are unique");
  EXPECT_EQ(message_of([&] { sample_candidates({.distribution = {.range_max = 0}, .num_sampled = 3}, ids); }),
            "range_max = 0: expected at least 1");
}

// Of a request without candidates, which plan() draws, here or on a CUDA device.
std::string message_with_sampler(const SamplerParams& sampler) {
  std::string on_device;
  const std::string message = message_with([&](auto& p) {
    p.request.negatives = {.count = 3, .sampler = sampler};
    on_device = message_of([&] { cuda::plan(p.request, 0); });
  });
  EXPECT_EQ(on_device, message);
  return message;
}

TEST(Validation, WantsASamplerOfTheSizesOfTheRequest) {
  EXPECT_EQ(message_with_sampler({.distribution = {.range_max = 10}, .num_sampled = 2}),
            "sampler.num_sampled = 2: expected num_sampled = 3, the number of negatives");
  EXPECT_EQ(message_with_sampler({.distribution = {.range_max = 1'000'000'000}, .num_sampled = 3}),
            "sampler.distribution.range_max = 1000000000: expected num_classes = 10");
  EXPECT_EQ(message_with_sampler({.distribution = {.range_max = 9}, .num_sampled = 3}),
            "sampler.distribution.range_max = 9: expected num_classes = 10");
}

TEST(Validation, WantsTheTablesThatADistributionDrawsFrom) {
  const UnigramTable table(std::vector<float>(10, 1.0f));
  const LearnedWeights learned(10);
  Distribution no_weights = table.distribution(), no_alias_table = no_weights, no_tree = learned.distribution();
  no_weights.unigram.weights = nullptr;
  no_alias_table.unigram.alias_table = nullptr;
  no_tree.learned.tree = nullptr;
  const Distribution named{.kind = no_weights.kind, .range_max = 10};
  const std::string no_table = "distribution.unigram: expected the tables of a UnigramTable, not null";
  const std::pair<Distribution, std::string> cases[] = {
      {no_weights, no_table},
      {no_alias_table, no_table},
      {named, no_table},
      {no_tree, "distribution.learned.tree: expected that of LearnedWeights, not null"},
      {{.kind = static_cast<DistributionKind>(5), .range_max = 10}, "distribution.kind = 5: expected 0 to 4"},
      {{.kind = static_cast<DistributionKind>(-1), .range_max = 10}, "distribution.kind = -1: expected 0 to 4"},
  };
  for (const auto& [distribution, message] : cases) {
    std::int64_t ids[] = {1, 2, 3};
    float counts[3];
    for (const bool unique : {false, true}) {
      const SamplerParams params{.distribution = distribution, .num_sampled = 3, .unique = unique};
      EXPECT_EQ(message_of([&] { sample_candidates(params, ids); }), message);
      EXPECT_EQ(message_of([&] { expected_counts(params, 3, ids, counts); }), message);
      EXPECT_EQ(message_of([&] { sample(one_example(params, ids), ids, counts, counts); }), message);
      EXPECT_EQ(message_with_sampler(params), message);
    }
  }
}

TEST(Validation, WantsIdsOfTheDistributionForCounts) {
  const UnigramTable table(std::vector<float>(10, 1.0f));
  const SamplerParams params{.distribution = table.distribution(), .num_sampled = 2};
  for (const std::int64_t bad : {std::int64_t{-1} << 40, std::int64_t{10}}) {
    const std::int64_t ids[] = {1, bad};
    std::int64_t drawn[2];
    float counts[2];
    const std::string rest = concat("[1] = ", bad, " is outside [0, range_max = 10)");
    EXPECT_EQ(message_of([&] { expected_counts(params, 2, ids, counts); }), "ids" + rest);
    EXPECT_EQ(message_of([&] { sample(one_example(params, ids), drawn, counts, counts); }), "true_classes" + rest);
  }
}

TEST(Validation, WantsASensibleNumberOfThreads) {
  EXPECT_EQ(message_of([] { set_num_threads(0); }), "num_threads = 0: expected 1 to 4096");
}

}  // namespace
}  // namespace fastnce
