// The CUDA backend against the CPU and against the long double solution. Needs a device, or the emulated one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "device_memory.h"
#include "device_problem.h"
#include "fastnce/cuda.h"
#include "fastnce/error.h"
#include "fastnce/sampler.h"
#include "problem.h"

namespace fastnce {
namespace {

class Cuda : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string reason = cuda::unavailable_reason();
    if (!reason.empty()) GTEST_SKIP() << "SKIPPED: no CUDA device: " << reason;
  }
};

// Twice, with poisoned results: what a call leaves in the workspace must not matter, and results must not vary.
void expect_solved(Problem<float>& p, Precision precision) {
  const Sizes& s = p.sizes;
  SCOPED_TRACE(::testing::Message() << "precision " << static_cast<int>(precision) << ", B = " << s.batch
                                    << ", T = " << s.num_true << ", S = " << s.num_sampled << ", D = " << s.dim);
  const Solution expected = solve(p);
  DeviceProblem device(p);
  device.request.precision = precision;
  device.run();
  const double allowed = tolerance(precision);
  EXPECT_EQ(device.ids, p.plan.ids);
  EXPECT_LE(relative_error(p.loss, expected.loss), allowed);
  EXPECT_LE(relative_error(p.grad_inputs, expected.grad_inputs), allowed);
  EXPECT_LE(relative_error(p.grad_weights, expected.grad_weights), allowed);
  EXPECT_LE(relative_error(p.grad_biases, expected.grad_biases), allowed);
  const std::vector<float> loss = p.loss;
  const std::vector<float> grad_inputs = p.grad_inputs;
  const std::vector<float> grad_weights = p.grad_weights;
  const std::vector<float> grad_biases = p.grad_biases;
  device.poison();
  device.run();
  EXPECT_EQ(p.loss, loss);
  EXPECT_EQ(p.grad_inputs, grad_inputs);
  EXPECT_EQ(p.grad_weights, grad_weights);
  EXPECT_EQ(p.grad_biases, grad_biases);
}

TEST_F(Cuda, LossAndGradientsKeepEveryPromiseAroundTheTileBoundaries) {
  constexpr Sizes kCases[] = {
      {.batch = 1, .num_true = 1, .num_sampled = 1, .dim = 1, .num_classes = 300},
      {.batch = 127, .num_true = 1, .num_sampled = 128, .dim = 31, .num_classes = 300},
      {.batch = 128, .num_true = 2, .num_sampled = 129, .dim = 64, .num_classes = 300},
      {.batch = 129, .num_true = 1, .num_sampled = 127, .dim = 65, .num_classes = 300},
      {.batch = 40, .num_true = 3, .num_sampled = 50, .dim = 128, .num_classes = 100},
      {.batch = 65, .num_true = 1, .num_sampled = 17, .dim = 129, .num_classes = 20},
      {.batch = 3, .num_true = 5, .num_sampled = 260, .dim = 33, .num_classes = 300},
  };
  for (const Precision precision : kLevels) {
    for (const Sizes& sizes : kCases) {
      Problem<float> p(sizes);
      expect_solved(p, precision);
    }
  }
}

// Several chunks of the batch (where the L2 cache is small), sums in several parts, rows that many pieces share.
TEST_F(Cuda, LossAndGradientsKeepEveryPromiseOverManyTiles) {
  for (const Precision precision : kLevels) {
    for (const std::int64_t distinct : {5000, 7}) {  // distinct samples and repeated ones
      Problem<float> p({.batch = 500, .num_true = 2, .num_sampled = 300, .dim = 70, .num_classes = 5000}, distinct);
      p.request.loss.remove_accidental_hits = true;
      expect_solved(p, precision);
    }
  }
}

// Classes that are all but ruled out: losses so small that 1 + e^x is 1.
TEST_F(Cuda, LossesOfUnlikelyClassesKeepTheirDigits) {
  for (const Precision precision : kLevels) {
    Problem<float> p({.batch = 40, .num_true = 0, .num_sampled = 200, .dim = 33, .num_classes = 300});
    for (float& bias : p.biases) bias -= 25.0f;
    expect_solved(p, precision);
  }
}

TEST_F(Cuda, EveryOutputCanBeLeftOut) {
  Problem<float> all({.batch = 70, .num_true = 2, .num_sampled = 140, .dim = 20, .num_classes = 90});
  DeviceProblem everything(all);
  everything.run();
  for (int left_out = 1; left_out < 16; ++left_out) {
    Problem<float> p(all.sizes);
    DeviceProblem device(p);
    if (left_out & 1) device.request.wanted.loss = false;
    if (left_out & 2) device.request.wanted.grad_inputs = false;
    if (left_out & 4) device.request.wanted.grad_weights = false;
    if (left_out & 8) device.request.wanted.grad_biases = false;
    compute_on_device(device.request, device.outputs);
    const auto expect_same = [&](bool wanted, const void* output, const std::vector<float>& expected) {
      if (!wanted) return;
      std::vector<float> got(expected.size());
      copy_to_host(got.data(), output, got.size() * sizeof(float));
      EXPECT_EQ(got, expected) << "without " << left_out;
    };
    const WantedOutputs& wanted = device.request.wanted;
    expect_same(wanted.loss, device.outputs.loss, all.loss);
    expect_same(wanted.grad_inputs, device.outputs.grad_inputs, all.grad_inputs);
    expect_same(wanted.grad_weights, device.outputs.grad_weights, all.grad_weights);
    expect_same(wanted.grad_biases, device.outputs.grad_biases, all.grad_biases);
  }
}

TEST_F(Cuda, NothingToSampleNoExamplesAndNoColumnsAreNoSpecialCases) {
  for (const Sizes& sizes : {Sizes{.batch = 9, .num_true = 2, .num_sampled = 0, .dim = 5, .num_classes = 30},
                             Sizes{.batch = 0, .num_true = 1, .num_sampled = 9, .dim = 5, .num_classes = 30},
                             Sizes{.batch = 9, .num_true = 0, .num_sampled = 9, .dim = 5, .num_classes = 30},
                             Sizes{.batch = 9, .num_true = 1, .num_sampled = 9, .dim = 0, .num_classes = 30},
                             Sizes{.batch = 0, .num_true = 0, .num_sampled = 0, .dim = 0, .num_classes = 30}}) {
    Problem<float> p(sizes);
    expect_solved(p, Precision::kHighest);
  }
}

void expect_nan_in_example_7_alone(const Problem<float>& p, const Problem<float>& clean) {
  for (std::int64_t b = 0; b < p.sizes.batch; ++b) {
    if (b == 7) {
      EXPECT_TRUE(std::isnan(p.loss[b]));
    } else {
      EXPECT_EQ(p.loss[b], clean.loss[b]);
    }
  }
  EXPECT_TRUE(std::ranges::none_of(p.grad_weights, [](float g) { return std::isnan(g); }));
  EXPECT_TRUE(std::ranges::none_of(p.grad_inputs, [](float g) { return std::isnan(g); }));
}

TEST_F(Cuda, ALabelOutOfRangeGivesNaNInItsExampleAndIsReported) {
  Problem<float> p({.batch = 140, .num_true = 2, .num_sampled = 30, .dim = 20, .num_classes = 90});
  Problem<float> clean(p.sizes);
  DeviceProblem clean_device(clean);
  clean_device.run();
  EXPECT_NO_THROW(cuda::check(0));
  p.labels[2 * 7 + 1] = 90;
  DeviceProblem device(p);
  device.run();
  expect_nan_in_example_7_alone(p, clean);
  EXPECT_TRUE(std::ranges::all_of(device.ids, [](std::int64_t id) { return id >= 0 && id < 90; }));
  try {
    cuda::check(0);
    FAIL();
  } catch (const InvalidValue& error) {
    EXPECT_STREQ(error.what(), "labels[7, 1] = 90 is outside [0, num_classes = 90)");
  }
  EXPECT_NO_THROW(cuda::check(0));
}

TEST_F(Cuda, AnExpectedCountThatIsNotPositiveGivesNaNInItsExample) {
  for (const float bad : {0.0f, -1.0f, std::numeric_limits<float>::quiet_NaN()}) {
    Problem<float> p({.batch = 140, .num_true = 2, .num_sampled = 30, .dim = 20, .num_classes = 90});
    Problem<float> clean(p.sizes);
    DeviceProblem clean_device(clean);
    clean_device.run();
    p.true_count[2 * 7 + 1] = bad;
    DeviceProblem device(p);
    device.run();
    expect_nan_in_example_7_alone(p, clean);
    EXPECT_NO_THROW(cuda::check(0));
  }
}

// A [B, S] matrix would be 4 TB here, and one of a sum per tile 32 GB.
TEST_F(Cuda, TheWorkspaceIsLinearInExamplesAndSamples) {
  Problem<float> p({.batch = 1, .num_true = 1, .num_sampled = 1, .dim = 64, .num_classes = 2});
  DeviceProblem device(p);
  constexpr std::int64_t kMany = 1'000'000;
  device.request.batch = kMany;
  device.request.negatives.count = kMany;
  EXPECT_LE(cuda::plan(device.request, 0).workspace_bytes, 48u * 64u * 2u * kMany);
}

TEST_F(Cuda, AWorkspaceThatIsTooSmallIsRefused) {
  Problem<float> p({.batch = 9, .num_true = 1, .num_sampled = 9, .dim = 5, .num_classes = 30});
  DeviceProblem device(p);
  const cuda::LossPlan plan = cuda::plan(device.request, 0);
  const std::size_t needed = plan.workspace_bytes;
  DeviceArray<unsigned char> workspace(needed);
  EXPECT_THROW(cuda::run(plan, device.outputs, {workspace.data(), needed - 1}, {}), InvalidValue);
  EXPECT_THROW(cuda::run(plan, device.outputs, {}, {}), InvalidValue);
  EXPECT_THROW(cuda::run(plan, device.outputs, {workspace.data() + 1, needed}, {}), InvalidValue);
}

TEST_F(Cuda, ArraysThatAreMissingAreRefused) {
  Problem<float> p({.batch = 9, .num_true = 2, .num_sampled = 0, .dim = 5, .num_classes = 30});
  DeviceProblem device(p);
  device.request.negatives.ids = nullptr;
  device.request.targets.expected_count = nullptr;
  device.request.negatives.expected_count = device.request.grad_loss;  // any array: counts are given
  EXPECT_THROW(cuda::plan(device.request, 0), InvalidValue);
  const SamplerParams sampling{.distribution = {.range_max = 50}, .num_sampled = 4};
  const DeviceArray<std::int64_t> ids(4);
  EXPECT_THROW(cuda::sample_candidates(sampling, nullptr, nullptr, 3, {ids.data()}, {}, {}), InvalidValue);
  EXPECT_THROW(cuda::sample_candidates(sampling, nullptr, ids.data(), -1, {ids.data()}, {}, {}), InvalidValue);
  EXPECT_THROW(cuda::copy_ids({.data = ids.data(), .bytes = 3}, ids.data(), {}), InvalidValue);
}

TEST_F(Cuda, ASampledClassOutOfRangeMakesEverythingNaNAndIsReported) {
  Problem<float> p({.batch = 9, .num_true = 1, .num_sampled = 7, .dim = 5, .num_classes = 300});
  p.sampled[3] = 300;
  DeviceProblem device(p);
  device.request.grad_loss = nullptr;
  compute_on_device(device.request, device.outputs);
  const auto expect_nan = [](const void* results, std::size_t count) {
    std::vector<float> values(count);
    copy_to_host(values.data(), results, count * sizeof(float));
    EXPECT_TRUE(std::ranges::all_of(values, [](float value) { return std::isnan(value); }));
  };
  expect_nan(device.outputs.loss, 9);
  expect_nan(device.outputs.grad_inputs, 9 * 5);
  std::int64_t rows = 0;
  copy_to_host(&rows, device.outputs.row_count, sizeof rows);
  EXPECT_GT(rows, 0);
  EXPECT_LT(rows, 9 + 7);
  expect_nan(device.outputs.grad_weights, static_cast<std::size_t>(rows) * 5);
  expect_nan(device.outputs.grad_biases, static_cast<std::size_t>(rows));
  try {
    cuda::check(0);
    FAIL();
  } catch (const InvalidValue& error) {
    EXPECT_STREQ(error.what(), "sampled_candidates[3] = 300 is outside [0, num_classes = 300)");
  }
}

struct Drawn {
  std::vector<std::int64_t> ids;
  std::vector<float> sampled_count, true_count;
};

Drawn draw_on_device(const SamplerParams& params, const std::vector<std::int64_t>& labels,
                     std::uint64_t* calls = nullptr) {
  const auto size = static_cast<std::size_t>(params.num_sampled);
  DeviceArray<std::int64_t> ids(size);
  DeviceArray<float> sampled_count(size);
  DeviceArray<float> true_count(labels.size());
  const DeviceArray<std::int64_t> device_labels(labels);
  DeviceArray<unsigned char> workspace(cuda::workspace_bytes(params));
  cuda::sample_candidates(params, calls, device_labels.data(), std::ssize(labels),
                          {ids.data(), sampled_count.data(), true_count.data()},
                          {workspace.data(), cuda::workspace_bytes(params)}, {});
  return {ids.values(), sampled_count.values(), true_count.values()};
}

std::vector<float> unigrams(std::size_t classes) {
  std::vector<float> weights(classes);
  for (std::size_t k = 0; k < classes; ++k) weights[k] = 1.0f / static_cast<float>(k % 1000 + 1);
  return weights;
}

// What `params` draw on the CPU; `on_device` are the same with tables on the device.
void expect_the_cpus(const SamplerParams& params, const SamplerParams& on_device) {
  const auto size = static_cast<std::size_t>(params.num_sampled);
  std::vector<std::int64_t> ids(size);
  const std::int64_t tries = sample_candidates(params, ids.data());
  const std::vector<std::int64_t> labels = {0, params.distribution.range_max / 2, params.distribution.range_max - 1};
  std::vector<float> sampled_count(size);
  std::vector<float> true_count(labels.size());
  expected_counts(params, tries, ids, sampled_count.data());
  expected_counts(params, tries, labels, true_count.data());
  const Drawn drawn = draw_on_device(on_device, labels);
  EXPECT_EQ(drawn.ids, ids) << "V = " << params.distribution.range_max << ", S = " << params.num_sampled;
  for (std::size_t i = 0; i < size; ++i) EXPECT_FLOAT_EQ(drawn.sampled_count[i], sampled_count[i]);
  for (std::size_t i = 0; i < labels.size(); ++i) EXPECT_FLOAT_EQ(drawn.true_count[i], true_count[i]);
}
void expect_the_cpus(const SamplerParams& params) { expect_the_cpus(params, params); }

TEST_F(Cuda, SampledIdsAndCountsAreTheCpusBitForBit) {
  const SamplerParams cases[] = {
      {.distribution = {.range_max = 50'000}, .num_sampled = 64, .seed = 1, .seed2 = 2},
      {.distribution = {.range_max = 1}, .num_sampled = 1, .seed = 1, .seed2 = 2},
      {.distribution = {.range_max = 2}, .num_sampled = 2, .seed = 1, .seed2 = 2},
      {.distribution = {.range_max = 800'000}, .num_sampled = 8192, .seed = 3, .seed2 = 4, .call = 5},
      {.distribution = {.range_max = 3'000},
       .num_sampled = 3'000,
       .seed = 5,
       .seed2 = 6},  // every class: many rounds of draws
      {.distribution = {.range_max = std::int64_t{1} << 62}, .num_sampled = 3'001, .seed = 7, .seed2 = 8},
      {.distribution = {.range_max = 1000}, .num_sampled = 2'501, .unique = false, .seed = 9, .seed2 = 10, .call = 1},
  };
  for (const SamplerParams& params : cases) expect_the_cpus(params);
}

// Half of all integers is rejected just above 2^62; with 100003 weights one in 65000, but with 1.5 million one in 3000.
TEST_F(Cuda, RejectedIntegersMoveTheDrawsBehindThem) {
  for (const std::int64_t v : {std::int64_t{1000}, (std::int64_t{1} << 62) + 1, std::int64_t{5} << 59}) {
    for (const bool unique : {true, false}) {
      expect_the_cpus(
          {.distribution = distribution_named("uniform", v), .num_sampled = 700, .unique = unique, .seed = 3});
    }
  }
  const UnigramTable tables[] = {UnigramTable(unigrams(1'500'001)), UnigramTable(unigrams(50))};
  for (const UnigramTable& table : tables) {
    const DeviceArray<unsigned char> memory(cuda::table_bytes(table.distribution()));
    const Distribution on_device = cuda::copy_tables(table.distribution(), memory.data(), {});
    for (const bool unique : {true, false}) {
      SamplerParams params{.distribution = table.distribution(), .num_sampled = 4'000, .unique = unique, .seed = 5};
      if (unique) params.num_sampled = table.weights().size() < 100 ? 49 : 4'000;  // all but one: many rounds of draws
      SamplerParams device_params = params;
      device_params.distribution = on_device;
      expect_the_cpus(params, device_params);
    }
  }
}

TEST_F(Cuda, DistributionsOfTheHostAreRefused) {
  for (const char* name : {"learned_unigram", "all"}) {
    EXPECT_THROW(cuda::workspace_bytes({.distribution = distribution_named(name, 5), .num_sampled = 5}), InvalidValue);
  }
}

TEST_F(Cuda, ACounterOnTheDeviceGoesOnWithTheStream) {
  SamplerParams params{.distribution = {.range_max = 5'000}, .num_sampled = 40, .seed = 11, .seed2 = 12};
  const DeviceArray<std::uint64_t> calls(std::vector<std::uint64_t>{3});
  for (std::uint64_t call = 3; call < 6; ++call) {
    params.call = call;
    std::vector<std::int64_t> ids(40);
    sample_candidates(params, ids.data());
    params.call = 99;  // not read
    EXPECT_EQ(draw_on_device(params, {1}, calls.data()).ids, ids);
  }
  EXPECT_EQ(calls.values()[0], 6u);
}

TEST_F(Cuda, ALabelOutOfRangeHasNoExpectedCount) {
  const SamplerParams params{.distribution = {.range_max = 50}, .num_sampled = 4, .seed = 1, .seed2 = 2};
  const Drawn drawn = draw_on_device(params, {-1, 49, 50});
  EXPECT_TRUE(std::isnan(drawn.true_count[0]));
  EXPECT_GT(drawn.true_count[1], 0.0f);
  EXPECT_TRUE(std::isnan(drawn.true_count[2]));
}

template <class T>
std::vector<std::int64_t> copied(const std::vector<T>& values, const cuda::IdArray& layout) {
  const DeviceArray<T> from(values);
  const DeviceArray<std::int64_t> to(static_cast<std::size_t>(layout.rows * layout.columns));
  cuda::IdArray ids = layout;
  ids.data = from.data();
  ids.bytes = sizeof(T);
  ids.is_signed = std::is_signed_v<T>;
  cuda::copy_ids(ids, to.data(), {});
  return to.values();
}

TEST_F(Cuda, IdsOfAnyTypeAndLayoutBecomeInt64) {
  const cuda::IdArray transposed{.rows = 2, .columns = 3, .row_stride = 1, .column_stride = 2};
  const std::vector<std::int64_t> expected = {1, 3, -1, 2, 4, 6};
  EXPECT_EQ(copied(std::vector<std::int8_t>{1, 2, 3, 4, -1, 6}, transposed), expected);
  EXPECT_EQ(copied(std::vector<std::int16_t>{1, 2, 3, 4, -1, 6}, transposed), expected);
  EXPECT_EQ(copied(std::vector<std::int32_t>{1, 2, 3, 4, -1, 6}, transposed), expected);
  EXPECT_EQ(copied(std::vector<std::int64_t>{1, 2, 3, 4, -1, 6}, transposed), expected);
  const cuda::IdArray one{.rows = 1, .columns = 1};
  EXPECT_EQ(copied(std::vector<std::uint8_t>{200}, one), std::vector<std::int64_t>{200});
  EXPECT_EQ(copied(std::vector<std::uint16_t>{60'000}, one), std::vector<std::int64_t>{60'000});
  EXPECT_EQ(copied(std::vector<std::uint32_t>{4'000'000'000}, one), std::vector<std::int64_t>{4'000'000'000});
}

}  // namespace
}  // namespace fastnce
