// Skip-gram training from C++. The float64 twin and the random numbers are compared in tests/test_skip_gram.py.
#include "fastnce/skip_gram.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "fastnce/error.h"

namespace fastnce {
namespace {

using Counts = std::vector<std::int64_t>;
using Ids = std::vector<std::int32_t>;

struct Tables {
  Tables(std::int64_t words, std::int64_t dim, float scale) : dim(dim) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0.0f, scale);
    for (std::vector<float>* table : {&vectors, &outputs}) {
      table->resize(static_cast<std::size_t>(words * dim));
      for (float& value : *table) value = normal(random);
    }
  }

  SkipGramProgress train(const SkipGram& model, const SkipGramText& text, std::int64_t threads = 1) {
    return model.train({vectors.data(), dim}, {outputs.data(), dim}, dim, text, threads);
  }

  std::int64_t dim;
  std::vector<float> vectors, outputs;
};

const Counts kCounts = {9, 7, 5, 3, 2, 1};
const Ids kText = {0, 1, 2, 0, 3, -1, 4, 0, 1, 5, 2, -1, 1, 0};

class SkipGramTest : public ::testing::TestWithParam<SkipGramLoss> {
 protected:
  static SkipGram model(Precision precision = Precision::kHighest) {
    return SkipGram({.window = 2, .negative = 3, .sample = 0.0, .loss = GetParam(), .precision = precision}, kCounts);
  }
};

TEST_P(SkipGramTest, AStepFollowsTheGradientOfTheLoss) {
  constexpr double kRate = 1e-3, kStep = 0.02;
  const Tables start(6, 5, 0.4f);
  const SkipGram skip_gram = model();
  Tables stepped = start;
  stepped.train(skip_gram, {.ids = kText, .first_rate = kRate, .last_rate = kRate});
  for (const auto table : {&Tables::vectors, &Tables::outputs}) {
    for (std::size_t at = 0; at < start.vectors.size(); ++at) {
      const auto loss_at = [&](double by) {
        Tables moved = start;
        (moved.*table)[at] += static_cast<float>(by);
        return moved.train(skip_gram, {.ids = kText}).loss;  // at a rate of 0
      };
      const double slope = (loss_at(kStep) - loss_at(-kStep)) / (2.0 * kStep);
      const double change = static_cast<double>((stepped.*table)[at]) - static_cast<double>((start.*table)[at]);
      EXPECT_NEAR(change, -kRate * slope, 1e-3 * kRate * (1.0 + std::abs(slope))) << at;
    }
  }
}

TEST_P(SkipGramTest, ARateOfZeroChangesNothing) {
  Tables tables(6, 17, 0.4f);
  const Tables before = tables;
  const SkipGramProgress progress = tables.train(model(), {.ids = kText});
  EXPECT_EQ(tables.vectors, before.vectors);
  EXPECT_EQ(tables.outputs, before.outputs);
  EXPECT_EQ(progress.kept, 12);
  EXPECT_GT(progress.loss, 0.0);
}

TEST_P(SkipGramTest, MediumPrecisionIsNear) {
  Tables highest(6, 40, 0.3f);
  Tables medium = highest;
  const SkipGramText text{.ids = kText, .first_rate = 0.05, .last_rate = 0.01};
  const double loss = highest.train(model(), text).loss;
  EXPECT_NEAR(medium.train(model(Precision::kMedium), text).loss, loss, 1e-2 * loss);
  for (std::size_t i = 0; i < highest.vectors.size(); ++i) {
    EXPECT_NEAR(medium.vectors[i], highest.vectors[i], 2e-3f);
    EXPECT_NEAR(medium.outputs[i], highest.outputs[i], 2e-3f);
  }
}

INSTANTIATE_TEST_SUITE_P(Losses, SkipGramTest,
                         ::testing::Values(SkipGramLoss::kNegativeSampling, SkipGramLoss::kNce,
                                           SkipGramLoss::kSampledSoftmax));

TEST(SkipGram, RefusesIdsOutOfRangeAndWritesNothing) {
  Tables tables(6, 4, 0.4f);
  const Tables before = tables;
  const Ids text = {0, 1, 6, 2};
  try {
    tables.train(SkipGram({}, kCounts), {.ids = text, .first_rate = 0.1, .last_rate = 0.1});
    ADD_FAILURE() << "expected InvalidValue";
  } catch (const InvalidValue& error) {
    EXPECT_NE(std::string(error.what()).find("ids[2] = 6"), std::string::npos) << error.what();
  }
  EXPECT_EQ(tables.vectors, before.vectors);
}

TEST(SkipGram, ThreadsTrainAllParts) {
  std::mt19937 random(2);
  Ids text;
  for (int i = 0; i < 40000; ++i) text.push_back(static_cast<std::int32_t>(random() % 7) - 1);
  Tables one(6, 8, 0.3f);
  Tables four = one;
  const SkipGram skip_gram({}, kCounts);
  const SkipGramText piece{.ids = text, .first_rate = 1e-3, .last_rate = 1e-3};
  const SkipGramProgress alone = one.train(skip_gram, piece), together = four.train(skip_gram, piece, 4);
  EXPECT_EQ(alone.pairs, together.pairs);
  EXPECT_EQ(alone.kept, together.kept);
  EXPECT_NEAR(alone.loss, together.loss, 0.05 * alone.loss);
}

}  // namespace
}  // namespace fastnce
