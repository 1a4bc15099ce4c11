// Labels as lists, their weights, and samples that an example removes, on a CUDA device, against the formulas. Needs a
// device, or the emulated one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "device_memory.h"
#include "device_problem.h"
#include "fastnce/cuda.h"
#include "fastnce/error.h"
#include "problem.h"

namespace fastnce {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct Member {
  std::string name;
  Loss loss;
};

const Member kMembers[] = {
    {"nce", {}},
    {"negative sampling",
     {.true_target = TrueTarget::kOne, .positive_weight = {.all = 0.25}, .negative_weight = {.all = 3.0}}},
    {"sampled softmax", {.family = LossFamily::kSoftmax}},
    {"softmax of all true classes", {.family = LossFamily::kSoftmax, .true_target = TrueTarget::kOne}},
};

class CudaTargets : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string reason = cuda::unavailable_reason();
    if (!reason.empty()) GTEST_SKIP() << "SKIPPED: no CUDA device: " << reason;
  }

  static void expect_solved(Problem<float>& p, const std::string& name, Precision precision = Precision::kHighest) {
    const Sizes& s = p.sizes;
    SCOPED_TRACE(::testing::Message() << name << ", precision " << static_cast<int>(precision) << ", B = " << s.batch
                                      << ", T = " << s.num_true << ", S = " << s.num_sampled << ", D = " << s.dim);
    const Solution expected = solve(p);
    DeviceProblem device(p);
    device.request.precision = precision;
    device.run();
    EXPECT_EQ(device.ids, p.plan.ids);
    const double allowed = tolerance(precision);
    EXPECT_LE(relative_error(p.loss, expected.loss), allowed);
    EXPECT_LE(relative_error(p.grad_inputs, expected.grad_inputs), allowed);
    EXPECT_LE(relative_error(p.grad_weights, expected.grad_weights), allowed);
    EXPECT_LE(relative_error(p.grad_biases, expected.grad_biases), allowed);
    if (!p.request.wanted.log_sum_exp) return;
    EXPECT_LE(relative_error(p.log_sum_exp, expected.log_sum_exp), allowed);
  }
};

TEST_F(CudaTargets, WeightsMultiplyTheTermsOfALabel) {
  for (const Member& member : kMembers) {
    for (const std::int64_t num_true : {1, 3, 9}) {
      Problem<float> p({.batch = 35, .num_true = num_true, .num_sampled = 40, .dim = 9, .num_classes = 60});
      p.request.loss = member.loss;
      p.weigh_labels();
      expect_solved(p, member.name);
    }
  }
}

TEST_F(CudaTargets, AWeightIsNotReadWhereALabelIsPadding) {
  for (const Member& member : kMembers) {
    Problem<float> p({.batch = 35, .num_true = 3, .num_sampled = 40, .dim = 9, .num_classes = 60});
    p.request.loss = member.loss;
    p.pad(4);
    p.weigh_labels();
    for (std::size_t i = 0; i < p.labels.size(); ++i) {
      if (p.labels[i] == p.request.targets.padding) p.label_weights[i] = kNaN;
    }
    expect_solved(p, member.name);
  }
}

TEST_F(CudaTargets, ListsOfAnyLengthHoldAroundTheTileBoundaries) {
  constexpr Sizes kCases[] = {
      {.batch = 0, .num_true = 2, .num_sampled = 9, .dim = 5, .num_classes = 60},
      {.batch = 9, .num_true = 2, .num_sampled = 0, .dim = 5, .num_classes = 60},
      {.batch = 1, .num_true = 1, .num_sampled = 1, .dim = 1, .num_classes = 60},  // an empty list alone
      {.batch = 2, .num_true = 40, .num_sampled = 3, .dim = 3, .num_classes = 60},
      {.batch = 129, .num_true = 4, .num_sampled = 127, .dim = 31, .num_classes = 60},
      {.batch = 260, .num_true = 2, .num_sampled = 30, .dim = 20, .num_classes = 5000},
  };
  for (const Precision precision : {Precision::kHighest, Precision::kMedium}) {
    for (const Member& member : kMembers) {
      for (const Sizes& sizes : kCases) {
        Problem<float> p(sizes);
        p.request.loss = member.loss;
        p.make_lists();
        p.weigh_labels();
        expect_solved(p, member.name, precision);
        EXPECT_NO_THROW(cuda::check(0));
      }
    }
  }
}

TEST_F(CudaTargets, ListsMayHoldPadding) {
  for (const Member& member : kMembers) {
    Problem<float> p({.batch = 135, .num_true = 5, .num_sampled = 20, .dim = 17, .num_classes = 100}, 60);
    p.request.loss = member.loss;
    p.pad(3);
    p.make_lists();
    expect_solved(p, member.name);
    EXPECT_NO_THROW(cuda::check(0));
  }
}

// What is wrong with `offsets`, by check().
std::string fault_of() {
  try {
    cuda::check(0);
  } catch (const InvalidValue& error) {
    return error.what();
  }
  return "";
}

// Of the examples from the first wrong offset on nothing is known.
TEST_F(CudaTargets, OffsetsThatAreWrongGiveNaNFromThereOnAndAreReported) {
  constexpr std::int64_t kHuge = std::int64_t{1} << 60;
  for (const Member& member : kMembers) {
    const auto give_lists = [&](Problem<float>& p) {
      p.request.loss = member.loss;
      p.offsets = {0, 2, 4, 6, 8, 10, 12, 14, 16};
      p.request.targets.offsets = p.offsets.data();
      p.request.targets.listed = 16;
    };
    Problem<float> clean({.batch = 8, .num_true = 2, .num_sampled = 9, .dim = 5, .num_classes = 60});
    give_lists(clean);
    DeviceProblem(clean).run();
    for (const auto& [at, offset, first] : {std::tuple<std::size_t, std::int64_t, std::size_t>{0, 1, 0},
                                            {0, -kHuge, 0},
                                            {3, 3, 2},
                                            {3, -5, 2},
                                            {5, kHuge, 4},
                                            {8, 17, 7}}) {
      SCOPED_TRACE(::testing::Message() << member.name << ": offsets[" << at << "] = " << offset);
      Problem<float> p(clean.sizes);
      give_lists(p);
      p.offsets[at] = offset;
      DeviceProblem(p).run();
      for (std::size_t b = 0; b < p.loss.size(); ++b) {
        EXPECT_TRUE(b >= first ? std::isnan(p.loss[b]) : p.loss[b] == clean.loss[b]) << b;
        for (std::size_t d = 0; d < 5; ++d) {
          EXPECT_EQ(p.grad_inputs[b * 5 + d], b >= first ? 0.0f : clean.grad_inputs[b * 5 + d]) << b;
        }
      }
      const auto is_finite = [](float value) { return std::isfinite(value); };
      EXPECT_TRUE(std::ranges::all_of(p.grad_weights, is_finite));
      EXPECT_TRUE(std::ranges::all_of(p.grad_biases, is_finite));
      const std::string fault = fault_of();
      EXPECT_NE(fault.find("labels.offsets["), std::string::npos) << fault;
      EXPECT_NE(
          fault.find("expected offsets that begin at 0, never fall and end within the values, of which there are 16"),
          std::string::npos)
          << fault;
    }
  }
}

// As where lists are padded to a shape that is fixed.
TEST_F(CudaTargets, ValuesBehindTheLastListAreNotRead) {
  for (const Member& member : kMembers) {
    for (const std::int64_t batch : {0, 8}) {
      Problem<float> p({.batch = batch, .num_true = 2, .num_sampled = 9, .dim = 5, .num_classes = 60});
      p.request.loss = member.loss;
      p.make_lists();
      p.exclude(1, 5);
      const Solution expected = solve(p);
      for (const std::int64_t id : {std::int64_t{1}, std::int64_t{-9}, std::int64_t{60}}) {
        p.labels.push_back(id);
        p.true_count.push_back(kNaN);
        p.excluded.push_back(id);
      }
      p.request.targets.ids = p.labels.data();
      p.request.targets.expected_count = p.true_count.data();
      p.request.targets.listed += 3;
      p.request.exclude.ids = p.excluded.data();
      p.request.exclude.listed += 3;
      DeviceProblem device(p);
      device.run();
      EXPECT_EQ(device.ids, p.plan.ids);
      EXPECT_LE(relative_error(p.loss, expected.loss), tolerance(Precision::kHighest));
      EXPECT_LE(relative_error(p.grad_inputs, expected.grad_inputs), tolerance(Precision::kHighest));
      EXPECT_LE(relative_error(p.grad_weights, expected.grad_weights), tolerance(Precision::kHighest));
      EXPECT_LE(relative_error(p.grad_biases, expected.grad_biases), tolerance(Precision::kHighest));
      EXPECT_EQ(fault_of(), "");
    }
  }
}

TEST_F(CudaTargets, ALabelOfAListThatIsOutOfRangeGivesNaNInItsExampleAndIsReported) {
  for (const Member& member : kMembers) {
    Problem<float> p({.batch = 30, .num_true = 3, .num_sampled = 9, .dim = 5, .num_classes = 60});
    p.request.loss = member.loss;
    p.make_lists();
    const std::int64_t at = p.offsets[6];
    ASSERT_GT(p.offsets[7], at);
    p.labels[static_cast<std::size_t>(at)] = 60;
    DeviceProblem(p).run();
    for (std::size_t b = 0; b < p.loss.size(); ++b) EXPECT_EQ(std::isnan(p.loss[b]), b == 6) << b;
    EXPECT_TRUE(std::ranges::none_of(p.grad_inputs, [](float value) { return std::isnan(value); }));
    EXPECT_EQ(fault_of(), "labels.values[" + std::to_string(at) + "] = 60 is outside [0, num_classes = 60)");
  }
}

TEST_F(CudaTargets, HitsOfListsAreRemoved) {
  for (const Precision precision : kLevels) {
    for (const Member& member : kMembers) {
      for (const std::int64_t distinct : {5000, 9}) {
        Problem<float> p({.batch = 35, .num_true = 6, .num_sampled = 140, .dim = 9, .num_classes = 160}, distinct);
        p.request.loss = member.loss;
        p.request.loss.remove_accidental_hits = true;
        p.pad(7);
        p.make_lists();
        expect_solved(p, member.name, precision);
      }
    }
  }
}

TEST_F(CudaTargets, WhatAnExampleExcludesIsRemoved) {
  for (const Member& member : kMembers) {
    for (const bool remove_hits : {false, true}) {
      for (const Sizes& sizes : {Sizes{.batch = 1, .num_true = 1, .num_sampled = 1, .dim = 1, .num_classes = 4},
                                 Sizes{.batch = 0, .num_true = 1, .num_sampled = 3, .dim = 1, .num_classes = 4},
                                 Sizes{.batch = 5, .num_true = 1, .num_sampled = 0, .dim = 1, .num_classes = 4},
                                 Sizes{.batch = 33, .num_true = 2, .num_sampled = 129, .dim = 9, .num_classes = 70},
                                 Sizes{.batch = 130, .num_true = 1, .num_sampled = 64, .dim = 33, .num_classes = 90}}) {
        Problem<float> p(sizes);
        p.request.loss = member.loss;
        p.request.loss.remove_accidental_hits = remove_hits;
        p.exclude(1, 300);
        expect_solved(p, member.name);
        EXPECT_NO_THROW(cuda::check(0));
      }
    }
  }
}

// Several chunks of the batch, each with its own bits.
TEST_F(CudaTargets, RemovalHoldsOverManyTiles) {
  Problem<float> p({.batch = 300, .num_true = 20, .num_sampled = 700, .dim = 5, .num_classes = 2000}, 900);
  p.request.loss = {.family = LossFamily::kSoftmax, .remove_accidental_hits = true};
  p.exclude(3, 40);
  expect_solved(p, "softmax", Precision::kMedium);
}

TEST_F(CudaTargets, ClassesWithTheSameKeyAreOneWhereSamplesAreRemoved) {
  for (const Member& member : kMembers) {
    for (const bool remove_hits : {false, true}) {
      Problem<float> p({.batch = 33, .num_true = 2, .num_sampled = 129, .dim = 9, .num_classes = 70});
      p.request.loss = member.loss;
      p.request.loss.remove_accidental_hits = remove_hits;
      p.exclude(1, 5);
      p.share_keys();
      expect_solved(p, member.name);
    }
  }
}

TEST_F(CudaTargets, EverySampleOfAClassThatWasSampledHundredsOfTimesIsRemoved) {
  for (const Member& member : kMembers) {
    Problem<float> p({.batch = 20, .num_true = 9, .num_sampled = 500, .dim = 3, .num_classes = 600}, 2);
    p.request.loss = member.loss;
    p.request.loss.remove_accidental_hits = true;
    expect_solved(p, member.name);
  }
}

TEST_F(CudaTargets, OffsetsOfExcludedClassesThatAreWrongGiveNaNFromThereOnAndAreReported) {
  for (const Member& member : kMembers) {
    Problem<float> p({.batch = 8, .num_true = 2, .num_sampled = 9, .dim = 5, .num_classes = 60});
    p.request.loss = member.loss;
    p.exclude(1, 5);
    p.exclude_offsets[4] = std::int64_t{1} << 50;
    DeviceProblem(p).run();
    for (std::size_t b = 0; b < p.loss.size(); ++b) EXPECT_EQ(std::isnan(p.loss[b]), b >= 3) << b;
    const std::string fault = fault_of();
    EXPECT_NE(fault.find("exclude.offsets["), std::string::npos) << fault;
  }
}

TEST_F(CudaTargets, AnExcludedClassOutOfRangeRemovesNothingAndIsReported) {
  for (const std::int64_t bad : {std::int64_t{-1}, std::int64_t{60}, std::int64_t{1} << 50}) {
    Problem<float> p({.batch = 8, .num_true = 2, .num_sampled = 9, .dim = 5, .num_classes = 60});
    p.exclude(1, 5);
    p.excluded[2] = bad;
    expect_solved(p, "nce");
    EXPECT_EQ(fault_of(), "exclude.values[2] = " + std::to_string(bad) + " is outside [0, num_classes = 60)");
  }
}

TEST_F(CudaTargets, ALabelOrASampleOutOfRangeIsNotLookedUp) {
  Problem<float> p({.batch = 8, .num_true = 9, .num_sampled = 9, .dim = 5, .num_classes = 60});
  p.request.loss.remove_accidental_hits = true;
  p.share_keys();
  p.labels[9] = 60;
  DeviceProblem(p).run();
  for (std::size_t b = 0; b < p.loss.size(); ++b) EXPECT_EQ(std::isnan(p.loss[b]), b == 1) << b;
  EXPECT_EQ(fault_of(), "labels[1, 0] = 60 is outside [0, num_classes = 60)");
  p.sampled[3] = -1;
  DeviceProblem device(p);
  compute_on_device(device.request, device.outputs);
  copy_to_host(p.loss.data(), device.outputs.loss, p.loss.size() * sizeof(float));
  EXPECT_TRUE(std::ranges::all_of(p.loss, [](float value) { return std::isnan(value); }));
  EXPECT_NE(fault_of(), "");
}

// A part that has some of the labels, or none: no list of them, no column, padding.
TEST_F(CudaTargets, APartOfALossIsItsShareAroundTheTileBoundaries) {
  constexpr Sizes kCases[] = {
      {.batch = 0, .num_true = 2, .num_sampled = 9, .dim = 5, .num_classes = 60},
      {.batch = 4, .num_true = 2, .num_sampled = 0, .dim = 5, .num_classes = 60},
      {.batch = 9, .num_true = 0, .num_sampled = 9, .dim = 5, .num_classes = 60},
      {.batch = 129, .num_true = 4, .num_sampled = 127, .dim = 31, .num_classes = 60},
  };
  for (const Member& member : kMembers) {
    for (const Sizes& sizes : kCases) {
      for (const bool lists : {false, true}) {
        Problem<float> p(sizes);
        p.request.loss = member.loss;
        p.request.loss.remove_accidental_hits = lists;
        if (sizes.num_true > 0) p.pad(5);
        if (lists) p.make_lists();
        p.weigh_labels();
        p.exclude(1, 5);
        p.make_part();
        expect_solved(p, member.name);
        EXPECT_NO_THROW(cuda::check(0));
      }
    }
  }
}

// Several chunks of the batch, each with its own examples.
TEST_F(CudaTargets, APartOfALossIsItsShareOverManyTiles) {
  Problem<float> p({.batch = 500, .num_true = 2, .num_sampled = 300, .dim = 5, .num_classes = 5000});
  p.request.loss = {.family = LossFamily::kSoftmax};
  p.pad(5);
  p.make_part();
  expect_solved(p, "softmax", Precision::kMedium);
}

TEST_F(CudaTargets, APartOfALossMayHaveGroups) {
  for (const Member& member : kMembers) {
    for (const std::int64_t groups : {2, 36}) {
      Problem<float> p({.batch = 36, .num_true = 3, .num_sampled = 33, .dim = 9, .num_classes = 70});
      p.request.loss = member.loss;
      p.make_groups(groups);
      p.make_lists();
      p.make_part();
      expect_solved(p, member.name);
    }
  }
}

// As where a part is asked for its log_sum_exp first.
TEST_F(CudaTargets, TheLogSumExpAloneIsThatBesideTheOtherOutputs) {
  Problem<float> p({.batch = 35, .num_true = 3, .num_sampled = 140, .dim = 9, .num_classes = 60});
  p.request.loss.family = LossFamily::kSoftmax;
  p.make_part();
  DeviceProblem(p).run();
  DeviceProblem device(p);
  device.request.wanted = {.loss = false, .log_sum_exp = true};
  compute_on_device(device.request, device.outputs);
  std::vector<double> alone(p.log_sum_exp.size());
  copy_to_host(alone.data(), device.outputs.log_sum_exp, alone.size() * sizeof(double));
  EXPECT_EQ(alone, p.log_sum_exp);
}

// Groups of one example, and of more; several warps of 32 samples.
TEST_F(CudaTargets, GroupsHaveCandidatesOfTheirOwn) {
  constexpr std::int64_t kSamples[] = {0, 1, 31, 32, 33, 70};
  constexpr std::int64_t kDims[] = {3, 132, 33, 4, 140, 1};
  for (const Member& member : kMembers) {
    for (const std::int64_t groups : {2, 6, 36}) {
      for (std::size_t i = 0; i < std::size(kSamples); ++i) {
        Problem<float> p({.batch = 36, .num_true = 2, .num_sampled = kSamples[i], .dim = kDims[i], .num_classes = 70});
        p.request.loss = member.loss;
        p.request.temperature = 0.5;
        p.make_groups(groups);
        expect_solved(p, member.name + " of " + std::to_string(groups) + " groups");
        EXPECT_NO_THROW(cuda::check(0));
      }
    }
  }
}

TEST_F(CudaTargets, GroupsRemoveTheirOwnCandidates) {
  for (const Member& member : kMembers) {
    for (const std::int64_t groups : {3, 36}) {
      Problem<float> p({.batch = 36, .num_true = 3, .num_sampled = 140, .dim = 5, .num_classes = 70}, 20);
      p.request.loss = member.loss;
      p.request.loss.remove_accidental_hits = true;
      p.make_groups(groups, 20);
      p.pad(5);
      p.make_lists();
      p.weigh_labels();
      p.exclude(1, 5);
      p.share_keys();
      expect_solved(p, member.name);
    }
  }
}

TEST_F(CudaTargets, GroupsOfNoExamplesHaveRowsOfZeros) {
  Problem<float> p({.batch = 0, .num_true = 2, .num_sampled = 7, .dim = 5, .num_classes = 70});
  p.make_groups(3);
  DeviceProblem device(p);
  device.run();
  EXPECT_EQ(device.ids, p.plan.ids);
  EXPECT_TRUE(std::ranges::all_of(p.grad_weights, [](float value) { return value == 0.0f; }));
}

TEST_F(CudaTargets, ASampleOfAGroupThatIsOutOfRangeMakesItsExamplesNaNAndIsReported) {
  for (const Member& member : kMembers) {
    Problem<float> p({.batch = 6, .num_true = 1, .num_sampled = 4, .dim = 5, .num_classes = 70});
    p.request.loss = member.loss;
    p.make_groups(3);
    p.sampled[4 + 2] = 70;
    const DeviceProblem device(p);
    compute_on_device(device.request, device.outputs);
    copy_to_host(p.loss.data(), device.outputs.loss, p.loss.size() * sizeof(float));
    for (std::size_t b = 0; b < p.loss.size(); ++b) EXPECT_EQ(std::isnan(p.loss[b]), b / 2 == 1) << b;
    EXPECT_EQ(fault_of(), "sampled_candidates[1, 2] = 70 is outside [0, num_classes = 70)");
  }
}

TEST_F(CudaTargets, GroupsDrawTheCandidatesThatTheCpuDraws) {
  for (const bool lists : {false, true}) {
    for (const std::int64_t groups : {2, 36}) {
      Problem<float> p({.batch = 36, .num_true = 2, .num_sampled = 33, .dim = 5, .num_classes = 70});
      p.request.loss = {.family = LossFamily::kSoftmax, .remove_accidental_hits = true};
      p.make_groups(groups);
      if (lists) p.make_lists();
      const SamplerParams sampler{
          .distribution = {.range_max = 70}, .num_sampled = 33, .seed = 1, .seed2 = 2, .call = 3};
      const SampleRequest drawn{.sources = {&sampler, 1},
                                .batch = 36,
                                .groups = groups,
                                .true_classes = p.labels,
                                .true_offsets = lists ? p.offsets.data() : nullptr};
      sample(drawn, p.sampled.data(), p.true_count.data(), p.sampled_count.data());
      p.use_rows(plan_rows(p.labels, p.sampled));
      const Solution expected = solve(p);
      DeviceProblem device(p);
      device.request.targets.expected_count = nullptr;
      device.request.negatives = {.groups = groups, .count = 33, .sampler = sampler};
      device.run();
      EXPECT_EQ(device.ids, p.plan.ids);
      EXPECT_LE(relative_error(p.loss, expected.loss), tolerance(Precision::kHighest));
      EXPECT_LE(relative_error(p.grad_inputs, expected.grad_inputs), tolerance(Precision::kHighest));
      EXPECT_LE(relative_error(p.grad_weights, expected.grad_weights), tolerance(Precision::kHighest));
      EXPECT_LE(relative_error(p.grad_biases, expected.grad_biases), tolerance(Precision::kHighest));
    }
  }
}

// More entries than one block sorts, and rows that many pieces share.
TEST_F(CudaTargets, GroupsOfManyExamplesAreRight) {
  for (const std::int64_t distinct : {5000, 3}) {
    Problem<float> p({.batch = 520, .num_true = 1, .num_sampled = 26, .dim = 6, .num_classes = 5000}, distinct);
    p.request.loss = {.family = LossFamily::kSoftmax, .remove_accidental_hits = true};
    p.make_groups(260, distinct);
    expect_solved(p, "sampled softmax");
  }
}

// What a removed sample's row holds does not matter.
TEST_F(CudaTargets, GroupsDoNotReadWhatTheyRemove) {
  for (const Member& member : kMembers) {
    Problem<float> p({.batch = 6, .num_true = 1, .num_sampled = 9, .dim = 5, .num_classes = 70}, 60);
    p.request.loss = member.loss;
    p.make_groups(6, 60);
    for (std::size_t b = 0; b < 6; ++b) p.sampled[9 * b + 4] = 65;
    p.excluded.assign(6, 65);
    p.exclude_offsets = {0, 1, 2, 3, 4, 5, 6};
    p.request.exclude = {p.excluded.data(), p.exclude_offsets.data(), 6};
    p.use_rows(plan_rows(p.labels, p.sampled));
    const Solution expected = solve(p);
    std::fill_n(p.weights.begin() + 65 * 5, 5, kNaN);
    p.biases[65] = kNaN;
    for (std::size_t b = 0; b < 6; ++b) p.sampled_count[9 * b + 4] = kNaN;
    DeviceProblem(p).run();
    EXPECT_LE(relative_error(p.loss, expected.loss), tolerance(Precision::kHighest)) << member.name;
    EXPECT_LE(relative_error(p.grad_inputs, expected.grad_inputs), tolerance(Precision::kHighest)) << member.name;
    EXPECT_LE(relative_error(p.grad_weights, expected.grad_weights), tolerance(Precision::kHighest)) << member.name;
  }
}

}  // namespace
}  // namespace fastnce
