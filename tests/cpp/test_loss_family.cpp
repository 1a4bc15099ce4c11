// Every loss of the family on the CPU, against the formulas.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "fastnce/config.h"
#include "problem.h"

namespace fastnce {
namespace {

struct Member {
  std::string name;
  Loss loss;
};

const Member kMembers[] = {
    {"nce", {}},
    {"nce as published", {.true_target = TrueTarget::kOne}},
    {"negative sampling",
     {.true_target = TrueTarget::kOne, .positive_weight = {.all = 0.25}, .negative_weight = {.all = 3.0}}},
    {"sampled softmax", {.family = LossFamily::kSoftmax, .remove_accidental_hits = true}},
    {"softmax with hits", {.family = LossFamily::kSoftmax}},
    {"softmax of all true classes", {.family = LossFamily::kSoftmax, .true_target = TrueTarget::kOne}},
};

template <class T>
class LossFamilyTest : public ::testing::Test {
 protected:
  static constexpr double kTolerance = 20 * std::numeric_limits<T>::epsilon();

  static void expect_solved(const Problem<T>& p, const std::string& name) { expect_matches(p, solve(p), name); }

  static void expect_matches(const Problem<T>& p, const Solution& expected, const std::string& name) {
    const Sizes& s = p.sizes;
    SCOPED_TRACE(::testing::Message() << name << ", B = " << s.batch << ", T = " << s.num_true << ", S = "
                                      << s.num_sampled << ", D = " << s.dim << ", threads = " << num_threads());
    EXPECT_LE(relative_error(p.loss, expected.loss), kTolerance);
    EXPECT_LE(relative_error(p.grad_inputs, expected.grad_inputs), kTolerance);
    EXPECT_LE(relative_error(p.grad_weights, expected.grad_weights), kTolerance);
    EXPECT_LE(relative_error(p.grad_biases, expected.grad_biases), kTolerance);
  }
};

using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(LossFamilyTest, Types);

TYPED_TEST(LossFamilyTest, HoldsAroundTheTileBoundaries) {
  for (const Member& member : kMembers) {
    for (const std::int64_t batch : {0, 1, 12, 63, 65, 129}) {
      for (const std::int64_t num_sampled : {0, 1, 16, 33, 255, 257}) {
        Problem<TypeParam> p({batch, 2, num_sampled, 19, 300});
        p.request.loss = member.loss;
        p.run();
        this->expect_solved(p, member.name);
      }
    }
  }
}

TYPED_TEST(LossFamilyTest, LeavesPaddingOut) {
  for (const Member& member : kMembers) {
    for (const std::int64_t num_true : {1, 3}) {
      for (const std::int64_t step : {2, 7}) {
        Problem<TypeParam> p({.batch = 70, .num_true = num_true, .num_sampled = 150, .dim = 17, .num_classes = 100},
                             60);
        p.request.loss = member.loss;
        p.pad(step);
        p.run();
        this->expect_solved(p, member.name + ", padded");
      }
    }
  }
}

TYPED_TEST(LossFamilyTest, AnExampleOfPaddingContributesNothingWhateverItsInputs) {
  for (const Member& member : kMembers) {
    const Sizes sizes{.batch = 20, .num_true = 2, .num_sampled = 30, .dim = 6, .num_classes = 40};
    Problem<TypeParam> clean(sizes), p(sizes);
    for (Problem<TypeParam>* problem : {&clean, &p}) {
      problem->request.loss = member.loss;
      problem->pad(5);
    }
    for (std::int64_t d = 0; d < sizes.dim; ++d)
      p.inputs[6 * sizes.dim + d] = std::numeric_limits<TypeParam>::quiet_NaN();
    p.grad_loss[6] = std::numeric_limits<TypeParam>::infinity();
    clean.run();
    p.run();
    EXPECT_EQ(p.loss[6], 0) << member.name;
    EXPECT_EQ(p.loss, clean.loss) << member.name;
    EXPECT_EQ(p.grad_inputs, clean.grad_inputs) << member.name;
    EXPECT_EQ(p.grad_weights, clean.grad_weights) << member.name;
    EXPECT_EQ(p.grad_biases, clean.grad_biases) << member.name;
  }
}

TYPED_TEST(LossFamilyTest, HoldsForAnyNumberOfThreads) {
  const int before = num_threads();
  for (const Member& member : kMembers) {
    // Enough work for all threads; one team of them and several; distinct and repeated samples.
    for (const Sizes sizes : {Sizes{1200, 2, 40, 34, 5000}, Sizes{200, 2, 900, 34, 5000}}) {
      for (const std::int64_t distinct : {5000, 20}) {
        Problem<TypeParam> p(sizes, distinct);
        p.request.loss = member.loss;
        const Solution expected = solve(p);
        for (const int threads : {1, 2, 3, 7}) {
          set_num_threads(threads);
          p.run();
          this->expect_matches(p, expected, member.name);
        }
      }
    }
  }
  set_num_threads(before);
}

TYPED_TEST(LossFamilyTest, SoftmaxHoldsInSeveralStrips) {
  const int before = num_threads();
  for (const int threads : {1, 3}) {
    set_num_threads(threads);
    Problem<TypeParam> p({.batch = 9000, .num_true = 1, .num_sampled = 10, .dim = 3, .num_classes = 50});
    p.request.loss = {.family = LossFamily::kSoftmax, .remove_accidental_hits = true};
    p.run();
    this->expect_solved(p, "strips");
  }
  set_num_threads(before);
}

// Samples so many that no strip is kept. A class sampled n times is the same as one sampled once, with 1 / n of its
// expected count.
TYPED_TEST(LossFamilyTest, SoftmaxHoldsWhereLogitsAreComputedAgain) {
  constexpr std::int64_t kTimes = 800;
  Problem<TypeParam> few({.batch = 70, .num_true = 1, .num_sampled = 1000, .dim = 3, .num_classes = 50'000});
  Problem<TypeParam> many({.batch = 70, .num_true = 1, .num_sampled = kTimes * 1000, .dim = 3, .num_classes = 50'000});
  many.labels = few.labels;
  for (std::size_t s = 0; s < many.sampled.size(); ++s) {
    many.sampled[s] = few.sampled[s % 1000];
    many.sampled_count[s] = few.sampled_count[s % 1000];
  }
  for (TypeParam& count : few.sampled_count) count /= kTimes;
  for (Problem<TypeParam>* p : {&few, &many}) {
    p->request.loss = {.family = LossFamily::kSoftmax, .remove_accidental_hits = true};
    p->plan = plan_rows(p->labels, p->sampled);
    p->grad_weights.resize(p->plan.ids.size() * 3);
    p->grad_biases.resize(p->plan.ids.size());
    p->outputs.grad_weights = p->grad_weights.data();
    p->outputs.grad_biases = p->grad_biases.data();
  }
  many.weights = few.weights, many.biases = few.biases, many.inputs = few.inputs;
  many.true_count = few.true_count, many.grad_loss = few.grad_loss;
  many.weight_shard.data = many.weights.data(), many.bias_shard.data = many.biases.data();
  many.request.inputs = many.inputs.data(), many.request.grad_loss = many.grad_loss.data();
  many.request.targets = few.request.targets;
  many.run();
  const Solution expected = solve(few);
  const double tolerance = 4 * this->kTolerance;  // sums of 800 times as many terms
  EXPECT_LE(relative_error(many.loss, expected.loss), tolerance);
  EXPECT_LE(relative_error(many.grad_inputs, expected.grad_inputs), tolerance);
  EXPECT_LE(relative_error(many.grad_weights, expected.grad_weights), tolerance);
  EXPECT_LE(relative_error(many.grad_biases, expected.grad_biases), tolerance);
}

TYPED_TEST(LossFamilyTest, HoldsWithoutBiasesAndExpectedCounts) {
  for (const Member& member : kMembers) {
    Problem<TypeParam> p({.batch = 30, .num_true = 2, .num_sampled = 40, .dim = 20, .num_classes = 60}, 30);
    p.request.loss = member.loss;
    p.request.biases = {};
    p.request.wanted.grad_biases = false;
    p.request.targets.expected_count = p.request.negatives.expected_count = nullptr;
    p.run();
    const Solution expected = solve(p);
    EXPECT_LE(relative_error(p.loss, expected.loss), this->kTolerance) << member.name;
    EXPECT_LE(relative_error(p.grad_inputs, expected.grad_inputs), this->kTolerance) << member.name;
    EXPECT_LE(relative_error(p.grad_weights, expected.grad_weights), this->kTolerance) << member.name;
    EXPECT_EQ(p.grad_biases[0], TypeParam(1e6)) << "written without biases";
  }
}

TYPED_TEST(LossFamilyTest, WeightsMayDifferByExample) {
  Problem<TypeParam> p({.batch = 90, .num_true = 2, .num_sampled = 140, .dim = 20, .num_classes = 60}, 30);
  std::vector<TypeParam> positive(90), negative(90);
  for (std::size_t b = 0; b < 90; ++b)
    positive[b] = TypeParam(0.5) * b, negative[b] = TypeParam(3) - TypeParam(0.1) * b;
  p.request.loss.positive_weight.values = positive.data();
  p.request.loss.negative_weight.values = negative.data();
  p.pad(4);
  p.run();
  this->expect_solved(p, "weights by example");
  p.request.grad_loss = nullptr;
  p.run();
  this->expect_solved(p, "weights by example, no upstream factor");
}

TYPED_TEST(LossFamilyTest, ComputesWhatIsAskedAndTouchesNothingElse) {
  for (const Member& member : kMembers) {
    const Sizes sizes{.batch = 30, .num_true = 2, .num_sampled = 40, .dim = 20, .num_classes = 60};
    Problem<TypeParam> all(sizes);
    all.request.loss = member.loss;
    all.run();
    for (int wanted = 1; wanted < 16; ++wanted) {
      Problem<TypeParam> p(sizes);
      const auto poison = p.loss[0];
      p.request.loss = member.loss;
      p.request.wanted = {(wanted & 1) != 0, (wanted & 2) != 0, (wanted & 4) != 0, (wanted & 8) != 0};
      p.run();
      const auto expect = [&](bool asked, const auto& got, const auto& full) {
        for (std::size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], asked ? full[i] : poison) << member.name;
      };
      expect(wanted & 1, p.loss, all.loss);
      expect(wanted & 2, p.grad_inputs, all.grad_inputs);
      expect(wanted & 4, p.grad_weights, all.grad_weights);
      expect(wanted & 8, p.grad_biases, all.grad_biases);
    }
  }
}

TYPED_TEST(LossFamilyTest, SoftmaxOfLargeLogitsNeitherOverflowsNorLosesTheSmallGradients) {
  for (const double scale : {1e4, -1e4}) {
    Problem<TypeParam> p({.batch = 40, .num_true = 1, .num_sampled = 50, .dim = 1, .num_classes = 90});
    p.request.loss = {.family = LossFamily::kSoftmax, .remove_accidental_hits = true};
    for (auto& bias : p.biases) bias *= static_cast<TypeParam>(scale);
    p.run();
    const Solution expected = solve(p);
    for (std::size_t b = 0; b < p.loss.size(); ++b) {
      EXPECT_TRUE(std::isfinite(p.loss[b]));
      EXPECT_NEAR(static_cast<double>(p.loss[b]), static_cast<double>(expected.loss.value[b]),
                  1e4 * 20 * std::numeric_limits<TypeParam>::epsilon());
    }
  }
  // One true class far above all others: its gradient is the others' share, not the rounding error of p - 1.
  Problem<TypeParam> p({.batch = 3, .num_true = 1, .num_sampled = 7, .dim = 1, .num_classes = 90});
  p.request.loss = {.family = LossFamily::kSoftmax, .remove_accidental_hits = true};
  p.labels = {80, 81, 82};
  for (int i = 0; i < 7; ++i) p.sampled[static_cast<std::size_t>(i)] = i;
  p.biases.assign(90, TypeParam{0});
  for (int id : {80, 81, 82}) p.biases[static_cast<std::size_t>(id)] = TypeParam{30};
  p.plan = plan_rows(p.labels, p.sampled);
  p.request.wanted = {.grad_biases = true};
  p.grad_biases.assign(p.plan.ids.size(), TypeParam{0});
  p.outputs.grad_biases = p.grad_biases.data();
  p.run();
  const Solution expected = solve(p);
  for (std::size_t row = 7; row < 10; ++row) {
    EXPECT_NEAR(static_cast<double>(p.grad_biases[row] / expected.grad_biases.value[row]), 1.0,
                100 * std::numeric_limits<TypeParam>::epsilon());
  }
}

// As where a bias masks a class: no other class is left, so that its probability is 1.
TYPED_TEST(LossFamilyTest, SoftmaxOfOneClassIsZeroHoweverLowItsLogit) {
  for (const double bias : {-1e28, -1e30, -3e38}) {
    Problem<TypeParam> p({.batch = 3, .num_true = 1, .num_sampled = 20, .dim = 4, .num_classes = 1});
    p.request.loss = {.family = LossFamily::kSoftmax, .remove_accidental_hits = true};
    p.biases[0] = static_cast<TypeParam>(bias);
    p.run();
    for (const TypeParam loss : p.loss) EXPECT_EQ(loss, 0) << bias;
    for (const TypeParam gradient : p.grad_inputs) EXPECT_EQ(gradient, 0) << bias;
  }
}

// Padding is no class: its count is neither read nor computed, wherever the table of a distribution would have it.
TYPED_TEST(LossFamilyTest, PlansThatDrawLeaveThePaddingOut) {
  const Sizes sizes{.batch = 20, .num_true = 2, .num_sampled = 30, .dim = 5, .num_classes = 50};
  std::vector<float> weights(50);
  for (std::size_t k = 0; k < weights.size(); ++k) weights[k] = static_cast<float>(k + 1);
  const UnigramTable table(weights);
  const SamplerParams sampler{.distribution = table.distribution(), .num_sampled = 30, .unique = false, .seed = 7};
  for (const std::int64_t padding : {std::int64_t{-1} << 40, std::int64_t{-1}, std::int64_t{50}, std::int64_t{49}}) {
    for (const Member& member : kMembers) {
      Problem<TypeParam> drawn(sizes), given(sizes);
      std::vector<std::int64_t> left;
      for (std::int64_t i = 0; i < std::ssize(drawn.labels); ++i) {
        const bool is_padding = i % 3 == 0 || i == 7 || drawn.labels[i] == padding;
        drawn.labels[i] = given.labels[i] = is_padding ? padding : drawn.labels[i];
        if (!is_padding) left.push_back(drawn.labels[i]);
      }
      sample_candidates(sampler, given.sampled.data());
      std::vector<float> true_count(left.size()), sampled_count(given.sampled.size());
      expected_counts(sampler, 30, left, true_count.data());
      expected_counts(sampler, 30, given.sampled, sampled_count.data());
      std::ranges::copy(sampled_count, given.sampled_count.begin());
      for (std::size_t i = 0, next = 0; i < given.labels.size(); ++i) {
        given.true_count[i] = given.labels[i] == padding ? TypeParam(NAN) : TypeParam(true_count[next++]);
      }
      drawn.request.negatives = {.count = 30, .sampler = sampler};
      drawn.request.targets.expected_count = nullptr;
      for (Problem<TypeParam>* const p : {&drawn, &given}) {
        p->request.loss = member.loss;
        p->request.targets.padding = padding;
        const std::size_t rows = plan_rows(left, given.sampled).ids.size();
        p->grad_weights.resize(rows * 5);
        p->grad_biases.resize(rows);
        p->run();
      }
      EXPECT_EQ(drawn.loss, given.loss) << member.name;
      EXPECT_EQ(drawn.grad_inputs, given.grad_inputs) << member.name;
      EXPECT_EQ(drawn.grad_weights, given.grad_weights) << member.name;
    }
  }
}

// Values that tables mask classes with: each is a product like any other.
TYPED_TEST(LossFamilyTest, NoProductStandsForARemovedHit) {
  using T = TypeParam;
  constexpr double kLargest = 0x1.fep127;  // of bfloat16: AMX multiplies parts of that type
  for (const double mask : {-1e30, -kLargest, 1e30, -1e9, -65504.0, -0x1p99, -0x1p100, -0x1.fffffep99}) {
    Problem<T> p({.batch = 1, .num_true = 1, .num_sampled = 2, .dim = 1, .num_classes = 3});
    p.request.targets.expected_count = p.request.negatives.expected_count = p.request.grad_loss = nullptr;
    p.request.loss.remove_accidental_hits = true;
    p.inputs = {1};
    p.weights[0] = p.weights[1] = p.weights[2] = static_cast<T>(mask);
    p.biases[0] = p.biases[1] = p.biases[2] = 0;
    p.labels[0] = 0;
    p.sampled = {1, 0};  // the second is a hit
    p.grad_weights.resize(2);
    p.grad_biases.resize(2);
    p.request.inputs = p.inputs.data();
    p.request.negatives.ids = p.sampled.data();
    p.request.loss.family = LossFamily::kSoftmax;
    p.run();
    EXPECT_NEAR(static_cast<double>(p.loss[0]), std::log(2.0), 1e-6) << mask;
    EXPECT_NEAR(static_cast<double>(p.grad_biases[1]), 0.5, 1e-6) << mask;
    // Here the bias takes the mask back: the logit is 0.
    p.request.loss.family = LossFamily::kLogistic;
    p.biases[0] = p.biases[1] = static_cast<T>(-mask);
    p.run();
    EXPECT_NEAR(static_cast<double>(p.loss[0]), 2 * std::log(2.0), 1e-6) << mask;
    EXPECT_NEAR(static_cast<double>(p.grad_biases[1]), 0.5, 1e-6) << mask;
  }
}

TYPED_TEST(LossFamilyTest, RemovedHitsContributeNothingWhateverTheirWeight) {
  using T = TypeParam;
  for (const std::int64_t num_sampled : {1, 20, 600}) {
    for (const double weight : {double{INFINITY}, double{NAN}}) {
      Problem<T> p({.batch = 2, .num_true = 1, .num_sampled = num_sampled, .dim = 3, .num_classes = 5});
      p.request.loss.remove_accidental_hits = true;
      std::vector<T> weights = {static_cast<T>(weight), T{1}};
      p.request.loss.negative_weight.values = weights.data();
      p.labels = {1, 2};
      std::ranges::fill(p.sampled, 1);  // all are hits of the first example
      p.request.targets.ids = p.labels.data();
      p.grad_weights.resize(6);
      p.grad_biases.resize(2);
      p.run();
      const std::vector<T> loss = p.loss, grad_inputs = p.grad_inputs;
      weights[0] = T{1};
      p.run();
      EXPECT_EQ(loss, p.loss) << num_sampled;
      EXPECT_EQ(grad_inputs, p.grad_inputs) << num_sampled;
      EXPECT_TRUE(std::isfinite(loss[0]));
    }
  }
}

TYPED_TEST(LossFamilyTest, SoftmaxKeepsNonFiniteExamplesToThemselves) {
  const Sizes sizes{.batch = 20, .num_true = 1, .num_sampled = 5, .dim = 6, .num_classes = 40};
  for (const TypeParam bad :
       {std::numeric_limits<TypeParam>::quiet_NaN(), std::numeric_limits<TypeParam>::infinity()}) {
    Problem<TypeParam> clean(sizes), p(sizes);
    clean.request.loss = p.request.loss = {.family = LossFamily::kSoftmax};
    p.inputs[3 * sizes.dim] = bad;
    clean.run();
    p.run();
    for (std::int64_t b = 0; b < sizes.batch; ++b) {
      if (b == 3) {
        EXPECT_FALSE(std::isfinite(p.loss[b]));
      } else {
        EXPECT_EQ(p.loss[b], clean.loss[b]);
      }
    }
  }
}

}  // namespace
}  // namespace fastnce
