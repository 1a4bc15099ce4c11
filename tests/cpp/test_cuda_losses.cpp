// Every member of the family of losses on a CUDA device, against the formulas. Needs a device, or the emulated one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "device_memory.h"
#include "device_problem.h"
#include "fastnce/cuda.h"
#include "fastnce/error.h"
#include "problem.h"

namespace fastnce {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

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

class CudaLosses : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string reason = cuda::unavailable_reason();
    if (!reason.empty()) GTEST_SKIP() << "SKIPPED: no CUDA device: " << reason;
  }

  static void run(Problem<float>& p, Precision precision = Precision::kHighest) {
    DeviceProblem device(p);
    device.request.precision = precision;
    device.run();
    EXPECT_EQ(device.ids, p.plan.ids);
  }

  static void expect_solved(Problem<float>& p, const std::string& name, Precision precision = Precision::kHighest) {
    const Sizes& s = p.sizes;
    SCOPED_TRACE(::testing::Message() << name << ", precision " << static_cast<int>(precision) << ", B = " << s.batch
                                      << ", T = " << s.num_true << ", S = " << s.num_sampled << ", D = " << s.dim);
    const Solution expected = solve(p);
    run(p, precision);
    const double allowed = tolerance(precision);
    EXPECT_LE(relative_error(p.loss, expected.loss), allowed);
    EXPECT_LE(relative_error(p.grad_inputs, expected.grad_inputs), allowed);
    EXPECT_LE(relative_error(p.grad_weights, expected.grad_weights), allowed);
    if (!p.request.wanted.grad_biases) return;
    EXPECT_LE(relative_error(p.grad_biases, expected.grad_biases), allowed);
  }
};

TEST_F(CudaLosses, HoldAroundTheTileBoundaries) {
  constexpr Sizes kCases[] = {
      {.batch = 0, .num_true = 2, .num_sampled = 9, .dim = 5, .num_classes = 60},
      {.batch = 9, .num_true = 2, .num_sampled = 0, .dim = 5, .num_classes = 60},
      {.batch = 7, .num_true = 1, .num_sampled = 1, .dim = 1, .num_classes = 60},
      {.batch = 129, .num_true = 2, .num_sampled = 127, .dim = 31, .num_classes = 60},
      {.batch = 31, .num_true = 1, .num_sampled = 128, .dim = 64, .num_classes = 60},
      {.batch = 40, .num_true = 5, .num_sampled = 129, .dim = 33, .num_classes = 60},
      {.batch = 3, .num_true = 2, .num_sampled = 260, .dim = 65, .num_classes = 60},
  };
  for (const Precision precision : kLevels) {
    for (const Member& member : kMembers) {
      for (const Sizes& sizes : kCases) {
        Problem<float> p(sizes);
        p.request.loss = member.loss;
        expect_solved(p, member.name, precision);
      }
    }
  }
}

// Several chunks of the batch (where the L2 cache is small), distinct samples and repeated ones.
TEST_F(CudaLosses, HoldOverManyTiles) {
  for (const Precision precision : kLevels) {
    for (const Member& member : kMembers) {
      for (const std::int64_t distinct : {5000, 7}) {
        Problem<float> p({.batch = 300, .num_true = 2, .num_sampled = 300, .dim = 20, .num_classes = 5000}, distinct);
        p.request.loss = member.loss;
        expect_solved(p, member.name, precision);
      }
    }
  }
}

TEST_F(CudaLosses, LeavePaddingOut) {
  for (const Member& member : kMembers) {
    for (const bool remove_hits : {false, true}) {
      for (const std::int64_t num_true : {1, 3, 40}) {
        for (const std::int64_t step : {2, 7}) {
          Problem<float> p({.batch = 135, .num_true = num_true, .num_sampled = 140, .dim = 17, .num_classes = 100}, 60);
          p.request.loss = member.loss;
          p.request.loss.remove_accidental_hits = remove_hits;
          p.pad(step);
          expect_solved(p, member.name + ", padded");
          EXPECT_NO_THROW(cuda::check(0));
        }
      }
    }
  }
}

// An id that stands for no class among labels may be sampled all the same.
TEST_F(CudaLosses, ASampledClassMayHaveTheIdOfPadding) {
  for (const Member& member : kMembers) {
    Problem<float> p({.batch = 20, .num_true = 2, .num_sampled = 30, .dim = 6, .num_classes = 40});
    p.request.loss = member.loss;
    p.request.loss.remove_accidental_hits = true;
    p.pad(3);
    std::ranges::replace(p.labels, 17, 18);
    std::ranges::replace(p.labels, *p.request.targets.padding, 17);
    p.request.targets.padding = 17;
    p.sampled[5] = 17;
    std::vector<std::int64_t> classes = p.labels;
    std::erase(classes, 17);
    p.plan = plan_rows(classes, p.sampled);
    p.grad_weights.resize(p.plan.ids.size() * 6);
    p.grad_biases.resize(p.plan.ids.size());
    expect_solved(p, member.name);
  }
}

TEST_F(CudaLosses, AnExampleOfPaddingContributesNothingWhateverItsInputs) {
  for (const Member& member : kMembers) {
    const Sizes sizes{.batch = 20, .num_true = 2, .num_sampled = 30, .dim = 6, .num_classes = 40};
    Problem<float> clean(sizes), p(sizes);
    std::vector<float> weights(20, 1.5f);
    for (Problem<float>* problem : {&clean, &p}) {
      problem->request.loss = member.loss;
      problem->pad(5);
    }
    clean.request.loss.positive_weight = clean.request.loss.negative_weight = {.all = 1.5};
    p.request.loss.positive_weight.values = p.request.loss.negative_weight.values = weights.data();
    std::fill_n(p.inputs.begin() + 6 * sizes.dim, sizes.dim, kNaN);
    p.grad_loss[6] = kInfinity;
    weights[6] = kNaN;
    run(clean);
    run(p);
    EXPECT_EQ(p.loss[6], 0.0f) << member.name;
    EXPECT_EQ(p.loss, clean.loss) << member.name;
    EXPECT_EQ(p.grad_inputs, clean.grad_inputs) << member.name;
    EXPECT_EQ(p.grad_weights, clean.grad_weights) << member.name;
    EXPECT_EQ(p.grad_biases, clean.grad_biases) << member.name;
  }
}

// Nor does it read the row of the id that stands for it.
TEST_F(CudaLosses, PaddingTakesNothingFromTheRowOfItsId) {
  for (const Member& member : kMembers) {
    const Sizes sizes{.batch = 20, .num_true = 3, .num_sampled = 30, .dim = 6, .num_classes = 40};
    Problem<float> clean(sizes, 30), p(sizes, 30);
    for (Problem<float>* problem : {&clean, &p}) {
      problem->request.loss = member.loss;
      problem->pad(4);
      std::ranges::replace(problem->labels, *problem->request.targets.padding, 35);
      problem->request.targets.padding = 35;
    }
    std::fill_n(p.weights.begin() + 35 * sizes.dim, sizes.dim, kNaN);
    p.biases[35] = kNaN;
    for (std::size_t i = 0; i < p.labels.size(); ++i) {
      if (p.labels[i] == 35) p.true_count[i] = i % 2 == 0 ? 0.0f : kNaN;  // not read
    }
    run(clean);
    run(p);
    EXPECT_EQ(p.loss, clean.loss) << member.name;
    EXPECT_EQ(p.grad_inputs, clean.grad_inputs) << member.name;
    EXPECT_EQ(p.grad_weights, clean.grad_weights) << member.name;
    EXPECT_EQ(p.grad_biases, clean.grad_biases) << member.name;
  }
}

TEST_F(CudaLosses, WeightsAreNumbersOrOnePerExample) {
  std::vector<float> positive(140), negative(140);
  for (std::size_t b = 0; b < positive.size(); ++b) {
    positive[b] = 0.1f * static_cast<float>(b % 7);
    negative[b] = 0.3f * static_cast<float>(b % 5);
  }
  for (const Precision precision : kLevels) {
    for (const TrueTarget target : {TrueTarget::kMean, TrueTarget::kOne}) {
      Problem<float> p({.batch = 140, .num_true = 2, .num_sampled = 70, .dim = 9, .num_classes = 90});
      p.request.loss = {.true_target = target,
                        .positive_weight = {.values = positive.data()},
                        .negative_weight = {.values = negative.data()}};
      expect_solved(p, "weights", precision);
      p.request.loss.positive_weight = {.all = 0.5};
      expect_solved(p, "a number and weights", precision);
    }
  }
}

TEST_F(CudaLosses, NeedNeitherBiasesNorExpectedCounts) {
  for (const Member& member : kMembers) {
    for (const bool biased : {false, true}) {
      Problem<float> p({.batch = 20, .num_true = 2, .num_sampled = 140, .dim = 9, .num_classes = 90});
      p.request.loss = member.loss;
      p.request.targets.expected_count = p.request.negatives.expected_count = nullptr;
      if (!biased) {
        p.request.biases.shards = {};
        p.request.wanted.grad_biases = false;
      }
      expect_solved(p, member.name);
    }
  }
}

std::vector<float> logs(const std::vector<float>& values) {
  std::vector<float> all;
  for (const float value : values) all.push_back(std::log(value));
  return all;
}

TEST_F(CudaLosses, TakeLogQInPlaceOfExpectedCounts) {
  for (const Member& member : kMembers) {
    Problem<float> p({.batch = 20, .num_true = 2, .num_sampled = 140, .dim = 9, .num_classes = 90});
    const std::vector<float> true_log_q = logs(p.true_count), sampled_log_q = logs(p.sampled_count);
    p.request.loss = member.loss;
    const Solution expected = solve(p);
    p.request.targets.expected_count = p.request.negatives.expected_count = nullptr;
    p.request.targets.log_q = true_log_q.data();
    p.request.negatives.log_q = sampled_log_q.data();
    run(p);
    EXPECT_LE(relative_error(p.loss, expected.loss), tolerance(Precision::kHighest)) << member.name;
    EXPECT_LE(relative_error(p.grad_inputs, expected.grad_inputs), tolerance(Precision::kHighest)) << member.name;
    EXPECT_LE(relative_error(p.grad_weights, expected.grad_weights), tolerance(Precision::kHighest)) << member.name;
    EXPECT_LE(relative_error(p.grad_biases, expected.grad_biases), tolerance(Precision::kHighest)) << member.name;
  }
}

TEST_F(CudaLosses, ALogQThatIsNotFiniteGivesNaNInItsExample) {
  for (const Member& member : kMembers) {
    for (const float bad : {kInfinity, -kInfinity, kNaN}) {
      Problem<float> p({.batch = 9, .num_true = 2, .num_sampled = 14, .dim = 9, .num_classes = 90});
      std::vector<float> true_log_q = logs(p.true_count), sampled_log_q = logs(p.sampled_count);
      true_log_q[2 * 7 + 1] = bad;
      p.request.loss = member.loss;
      p.request.targets = {.per_example = 2, .ids = p.labels.data(), .log_q = true_log_q.data()};
      p.request.negatives = {.count = 14, .ids = p.sampled.data(), .log_q = sampled_log_q.data()};
      run(p);
      for (std::size_t b = 0; b < p.loss.size(); ++b) EXPECT_EQ(std::isnan(p.loss[b]), b == 7) << member.name;
      EXPECT_TRUE(std::ranges::none_of(p.grad_inputs, [](float g) { return std::isnan(g); })) << member.name;
    }
  }
}

TEST_F(CudaLosses, ATemperatureDividesTheInputs) {
  for (const Precision precision : kLevels) {
    for (const Member& member : kMembers) {
      Problem<float> p({.batch = 30, .num_true = 2, .num_sampled = 70, .dim = 33, .num_classes = 90});
      p.request.loss = member.loss;
      p.request.temperature = 0.3;
      expect_solved(p, member.name, precision);
    }
  }
}

// Numbers of few bits, so that every logit is exact at every level.
TEST_F(CudaLosses, LogitsOfAnySizeDoNotOverflow) {
  for (const Precision precision : kLevels) {
    for (const Member& member : kMembers) {
      Problem<float> p({.batch = 70, .num_true = 2, .num_sampled = 140, .dim = 4, .num_classes = 60});
      p.request.loss = member.loss;
      p.request.targets.expected_count = p.request.negatives.expected_count = nullptr;
      for (std::vector<float>* values : {&p.weights, &p.inputs}) {
        for (float& value : *values) value = std::nearbyint(value * 8) / 4;
      }
      for (std::size_t id = 0; id < p.biases.size(); ++id)
        p.biases[id] = id % 3 == 0 ? 1e4f : id % 3 == 1 ? -1e4f : 0.0f;
      expect_solved(p, member.name, precision);
    }
  }
}

// A logit of 25 is known to 2e-6, and so are losses of exp(-25).
TEST_F(CudaLosses, SmallLossesOfTheSoftmaxKeepTheirDigits) {
  for (const std::int64_t num_true : {1, 2}) {
    Problem<float> p({.batch = 40, .num_true = num_true, .num_sampled = 200, .dim = 33, .num_classes = 300});
    p.request.loss = {.family = LossFamily::kSoftmax};
    for (std::size_t i = 0; i < p.labels.size(); ++i) p.labels[i] = static_cast<std::int64_t>(i) % 2 == 0 ? 1 : 2;
    for (std::int64_t& id : p.sampled) id = std::max<std::int64_t>(id, 3);
    p.biases[1] += 25.0f;
    if (num_true == 1) p.biases[2] += 25.0f;
    p.plan = plan_rows(p.labels, p.sampled);
    p.grad_weights.resize(p.plan.ids.size() * 33);
    p.grad_biases.resize(p.plan.ids.size());
    const Solution expected = solve(p);
    run(p);
    for (std::size_t b = 0; b < p.loss.size(); ++b) {
      EXPECT_NEAR(p.loss[b] / static_cast<double>(expected.loss.value[b]), 1.0, 1e-5);
    }
    EXPECT_LE(relative_error(p.grad_inputs, expected.grad_inputs), 1e-5);
    EXPECT_LE(relative_error(p.grad_weights, expected.grad_weights), 1e-5);
    EXPECT_LE(relative_error(p.grad_biases, expected.grad_biases), 1e-5);
  }
}

void expect_nothing(const Problem<float>& p) {
  const auto is_zero = [](float value) { return value == 0.0f; };
  EXPECT_TRUE(std::ranges::all_of(p.loss, is_zero));
  EXPECT_TRUE(std::ranges::all_of(p.grad_inputs, is_zero));
  EXPECT_TRUE(std::ranges::all_of(p.grad_weights, is_zero));
  EXPECT_TRUE(std::ranges::all_of(p.grad_biases, is_zero));
}

// Every duplicate.
TEST_F(CudaLosses, RemovedHitsAreNotInTheDenominator) {
  for (const Precision precision : kLevels) {
    Problem<float> p({.batch = 130, .num_true = 1, .num_sampled = 140, .dim = 5, .num_classes = 60}, 1);
    p.request.loss = {.family = LossFamily::kSoftmax, .remove_accidental_hits = true};
    p.sampled_count.assign(p.sampled_count.size(), 0.0f);  // not used
    run(p, precision);
    expect_nothing(p);
  }
}

TEST_F(CudaLosses, RemovedHitsContributeNothingWhateverTheirWeight) {
  for (const float weight : {kInfinity, kNaN}) {
    const std::vector<float> weights(130, weight);
    Problem<float> p({.batch = 130, .num_true = 1, .num_sampled = 140, .dim = 5, .num_classes = 60}, 1);
    p.request.loss = {.negative_weight = {.values = weights.data()}, .remove_accidental_hits = true};
    expect_solved(p, "removed");
  }
}

TEST_F(CudaLosses, AClassThatABiasRulesOutHasNoProbability) {
  for (const Precision precision : kLevels) {
    for (const std::int64_t excluded : {2, 60}) {  // every second class, or all but the true one
      Problem<float> p({.batch = 130, .num_true = 1, .num_sampled = 140, .dim = 5, .num_classes = 60});
      p.request.loss = {.family = LossFamily::kSoftmax};
      std::ranges::fill(p.labels, 59);
      std::ranges::replace(p.sampled, 59, 57);
      for (std::int64_t id = 0; id < 59; ++id) {
        if (excluded == 60 || id % 2 == 0) p.biases[static_cast<std::size_t>(id)] = -kInfinity;
      }
      p.plan = plan_rows(p.labels, p.sampled);
      p.grad_weights.resize(p.plan.ids.size() * 5);
      p.grad_biases.resize(p.plan.ids.size());
      excluded == 60 ? run(p, precision) : expect_solved(p, "biases of -inf", precision);
      if (excluded == 60) expect_nothing(p);
    }
  }
}

TEST_F(CudaLosses, EveryOutputOfTheSoftmaxCanBeLeftOut) {
  const Sizes sizes{.batch = 70, .num_true = 2, .num_sampled = 140, .dim = 20, .num_classes = 90};
  Problem<float> all(sizes);
  all.request.loss = {.family = LossFamily::kSoftmax};
  run(all);
  for (int left_out = 1; left_out < 16; ++left_out) {
    Problem<float> p(sizes);
    p.request.loss = {.family = LossFamily::kSoftmax};
    p.request.wanted = {.loss = (left_out & 1) == 0,
                        .grad_inputs = (left_out & 2) == 0,
                        .grad_weights = (left_out & 4) == 0,
                        .grad_biases = (left_out & 8) == 0};
    DeviceProblem device(p);
    compute_on_device(device.request, device.outputs);
    const auto expect_same = [&](bool wanted, const void* output, const std::vector<float>& expected) {
      if (!wanted) return;
      std::vector<float> got(expected.size());
      copy_to_host(got.data(), output, got.size() * sizeof(float));
      EXPECT_EQ(got, expected) << "without " << left_out;
    };
    expect_same(p.request.wanted.loss, device.outputs.loss, all.loss);
    expect_same(p.request.wanted.grad_inputs, device.outputs.grad_inputs, all.grad_inputs);
    expect_same(p.request.wanted.grad_weights, device.outputs.grad_weights, all.grad_weights);
    expect_same(p.request.wanted.grad_biases, device.outputs.grad_biases, all.grad_biases);
  }
}

TEST_F(CudaLosses, ASampledClassWithoutALogitMakesEverythingNaN) {
  for (const Member& member : kMembers) {
    for (const bool out_of_range : {true, false}) {
      Problem<float> p({.batch = 9, .num_true = 1, .num_sampled = 7, .dim = 5, .num_classes = 300});
      p.request.loss = member.loss;
      (out_of_range ? p.sampled[3] = 300 : p.sampled_count[3] = 0.0f);
      DeviceProblem device(p);
      compute_on_device(device.request, device.outputs);
      copy_to_host(p.loss.data(), device.outputs.loss, p.loss.size() * sizeof(float));
      copy_to_host(p.grad_inputs.data(), device.outputs.grad_inputs, p.grad_inputs.size() * sizeof(float));
      const auto is_nan = [](float value) { return std::isnan(value); };
      EXPECT_TRUE(std::ranges::all_of(p.loss, is_nan));
      EXPECT_TRUE(std::ranges::all_of(p.grad_inputs, is_nan));
      if (out_of_range) {
        EXPECT_THROW(cuda::check(0), InvalidValue);
      }
    }
  }
}

TEST_F(CudaLosses, ALabelOutOfRangeIsReportedBesidePadding) {
  const Sizes sizes{.batch = 140, .num_true = 2, .num_sampled = 30, .dim = 20, .num_classes = 90};
  for (const Member& member : kMembers) {
    Problem<float> clean(sizes), p(sizes);
    for (Problem<float>* problem : {&clean, &p}) {
      problem->request.loss = member.loss;
      problem->pad(5);
    }
    run(clean);
    p.labels[2 * 7 + 1] = 90;
    DeviceProblem device(p);
    device.run();
    const auto is_nan = [](float value) { return std::isnan(value); };
    for (std::int64_t b = 0; b < sizes.batch; ++b) {
      EXPECT_TRUE(b == 7 ? is_nan(p.loss[b]) : p.loss[b] == clean.loss[b]) << b;
    }
    EXPECT_TRUE(std::ranges::none_of(p.grad_inputs, is_nan));
    EXPECT_TRUE(std::ranges::none_of(p.grad_weights, is_nan));
    EXPECT_TRUE(std::ranges::none_of(p.grad_biases, is_nan));
    try {
      cuda::check(0);
      FAIL();
    } catch (const InvalidValue& error) {
      EXPECT_STREQ(error.what(), "labels[7, 1] = 90 is outside [0, num_classes = 90), and is not padding = -1");
    }
  }
}

}  // namespace
}  // namespace fastnce
