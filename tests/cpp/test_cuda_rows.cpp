// Row gradients on a device: their order, sums and layouts. Needs a device, or the emulated one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "device_memory.h"
#include "device_numbers.h"
#include "fastnce/cuda.h"
#include "fastnce/error.h"
#include "fastnce/sampler.h"
#include "problem.h"

namespace fastnce {
namespace {

class CudaRows : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string reason = cuda::unavailable_reason();
    if (!reason.empty()) GTEST_SKIP() << "SKIPPED: no CUDA device: " << reason;
  }
};

// How inputs and gradients lie in memory.
struct Format {
  DType inputs = DType::kFloat32;
  DType gradients = DType::kFloat32;
  std::int64_t gap = 0;             // elements between rows of the inputs
  std::int64_t skip = 0;            // elements in front of the inputs
  std::int64_t gradients_skip = 0;  // elements in front of the gradients
};

struct RowGradients {
  std::vector<std::int64_t> ids;
  std::vector<float> weights, biases;

  bool operator==(const RowGradients&) const = default;
};

enum class Wanted { kAll, kWeights, kBiases };

// Also checks the rows beyond the count.
RowGradients row_gradients(const Problem<float>& p, const Format& format = {}, Wanted wanted = Wanted::kAll) {
  const auto dim = static_cast<std::size_t>(p.sizes.dim);
  const std::size_t entries = p.labels.size() + p.sampled.size();
  std::vector<float> spread(p.sizes.batch * (p.sizes.dim + format.gap), std::nanf(""));
  for (std::int64_t b = 0; b < p.sizes.batch; ++b) {
    std::copy_n(p.inputs.begin() + b * p.sizes.dim, p.sizes.dim, spread.begin() + b * (p.sizes.dim + format.gap));
  }
  const Numbers inputs(spread, format.inputs, format.skip);
  const DeviceArray<float> weights(p.weights), biases(p.biases), true_count(p.true_count),
      sampled_count(p.sampled_count), grad_loss(p.grad_loss);
  const DeviceArray<std::int64_t> labels(p.labels), sampled(p.sampled), ids(entries), row_count(1);
  const Numbers grad_weights(entries * dim, format.gradients, format.gradients_skip);
  const Numbers grad_biases(entries, format.gradients, format.gradients_skip);
  Shard weight_shard = p.weight_shard;
  Shard bias_shard = p.bias_shard;
  weight_shard.data = weights.data();
  bias_shard.data = biases.data();

  LossRequest request = p.request;
  request.wanted = {
      .loss = false, .grad_weights = wanted != Wanted::kBiases, .grad_biases = wanted != Wanted::kWeights};
  request.weights.shards = {&weight_shard, 1};
  request.biases.shards = {&bias_shard, 1};
  request.targets.ids = labels.data();
  request.targets.expected_count = true_count.data();
  request.negatives.ids = sampled.data();
  request.negatives.expected_count = sampled_count.data();
  request.inputs = inputs.data();
  request.inputs_dtype = format.inputs;
  request.inputs_stride = p.sizes.dim + format.gap;
  request.grad_loss = grad_loss.data();
  compute_on_device(request, {.grad_weights = grad_weights.data(),
                              .grad_biases = grad_biases.data(),
                              .grad_weights_dtype = format.gradients,
                              .grad_biases_dtype = format.gradients,
                              .row_ids = ids.data(),
                              .row_count = row_count.data()});

  RowGradients got{ids.values(), grad_weights.values(), grad_biases.values()};
  const auto count = static_cast<std::size_t>(row_count.values()[0]);
  const std::int64_t last = count > 0 ? got.ids[count - 1] : 0;
  const auto expect_padding = [&](std::vector<float>& values, std::size_t width, bool written) {
    for (std::size_t i = count * width; i < values.size(); ++i) {
      if (written && !std::ranges::any_of(p.sampled, [&](auto id) { return id < 0 || id >= p.request.num_classes; })) {
        EXPECT_EQ(values[i], 0.0f) << i;
      } else {
        EXPECT_TRUE(std::isnan(values[i])) << i;
      }
    }
    values.resize(written ? count * width : 0);
  };
  EXPECT_LE(count, entries);
  EXPECT_TRUE(std::all_of(got.ids.begin() + count, got.ids.end(), [&](std::int64_t id) { return id == last; }));
  got.ids.resize(count);
  expect_padding(got.weights, dim, wanted != Wanted::kBiases);
  expect_padding(got.biases, 1, wanted != Wanted::kWeights);
  return got;
}

void expect_solved(const RowGradients& got, const std::vector<std::int64_t>& ids, const Solution& expected) {
  EXPECT_EQ(got.ids, ids);
  ASSERT_EQ(got.ids.size(), ids.size());
  EXPECT_LE(relative_error(got.weights, expected.grad_weights), tolerance(Precision::kHighest));
  EXPECT_LE(relative_error(got.biases, expected.grad_biases), tolerance(Precision::kHighest));
}

// `entries` labels and samples of 20,000 classes, `dim` columns.
Sizes sizes_of(std::int64_t entries, std::int64_t dim) {
  const std::int64_t batch = entries > 2'000 ? 32 : 1;
  const std::int64_t sampled = batch == 1 ? std::min<std::int64_t>(entries / 2, 100) : 32 + entries % 32;
  return {batch, (entries - sampled) / batch, sampled, dim, 20'000};
}

// Pieces of 32 entries, and what one block sorts: 1024, 6144 or 12288.
constexpr std::int64_t kEntryCounts[] = {1,    2,    31,   32,   33,   63,   64,    65,    97,
                                         1023, 1024, 1025, 6143, 6144, 6145, 12287, 12288, 12289};

TEST_F(CudaRows, SumsAreRightAroundEverySizeOfTheSort) {
  for (const std::int64_t entries : kEntryCounts) {
    SCOPED_TRACE(::testing::Message() << entries << " entries");
    const Problem<float> p(sizes_of(entries, 4));
    ASSERT_EQ(std::ssize(p.labels) + std::ssize(p.sampled), entries);
    expect_solved(row_gradients(p), p.plan.ids, solve(p));
  }
}

TEST_F(CudaRows, RowsThatManyPiecesShareAreRight) {
  for (const std::int64_t entries : kEntryCounts) {
    for (const std::int64_t distinct : {7, 1}) {
      SCOPED_TRACE(::testing::Message() << entries << " entries of " << distinct << " classes");
      const Problem<float> p({1, entries, 0, 4, 20'000}, distinct);
      expect_solved(row_gradients(p), p.plan.ids, solve(p));
    }
  }
}

TEST_F(CudaRows, EitherGradientCanBeLeftOut) {
  for (const std::int64_t entries : {97, 6'144, 12'289}) {
    const Problem<float> p(sizes_of(entries, 4), 500);
    const RowGradients all = row_gradients(p);
    const RowGradients weights = row_gradients(p, {}, Wanted::kWeights);
    const RowGradients biases = row_gradients(p, {}, Wanted::kBiases);
    EXPECT_EQ(weights.ids, all.ids);
    EXPECT_EQ(weights.weights, all.weights);
    EXPECT_EQ(biases.ids, all.ids);
    EXPECT_EQ(biases.biases, all.biases);
  }
}

TEST_F(CudaRows, LabelsOutOfRangeAddNothing) {
  for (const std::int64_t entries : {1, 40, 1'025, 12'288, 13'000}) {
    for (const std::int64_t every : {1, 3, 50}) {
      SCOPED_TRACE(::testing::Message() << entries << " entries, every " << every << "th out of range");
      Sizes sizes = sizes_of(entries, 4);
      if (every == 3) sizes.num_classes = 1 << 14;  // the number V takes one bit more than the classes below it
      Problem<float> p(sizes, 10'000);
      // The same with a class of its own for the labels that are out of range, which comes last.
      Problem<float> reference(p.sizes, 10'000);
      for (std::size_t i = 0; i < p.labels.size(); i += every) {
        p.labels[i] = i % 2 == 0 ? -1 : p.sizes.num_classes;
        reference.labels[i] = p.sizes.num_classes - 1;
      }
      reference.plan = plan_rows(reference.labels, reference.sampled);
      reference.grad_weights.resize(reference.plan.ids.size() * 4);
      reference.grad_biases.resize(reference.plan.ids.size());
      Solution expected = solve(reference);
      std::vector<std::int64_t> ids = reference.plan.ids;
      ASSERT_EQ(ids.back(), p.sizes.num_classes - 1);
      ids.pop_back();
      for (std::size_t i = 0; i < 4; ++i) {
        expected.grad_weights.magnitude.pop_back();
        expected.grad_weights.value.pop_back();
      }
      expected.grad_biases.magnitude.pop_back();
      expected.grad_biases.value.pop_back();
      expect_solved(row_gradients(p), ids, expected);
      EXPECT_THROW(cuda::check(0), InvalidValue);
    }
  }
}

TEST_F(CudaRows, ASampleOutOfRangeMakesAllGradientsNaN) {
  for (const std::int64_t entries : {40, 41, 12'288, 12'289}) {
    Problem<float> p(sizes_of(entries, 5), 1'000);
    (entries % 2 == 0 ? p.sampled.back() : p.sampled.front()) = 20'000;
    p.labels.front() = -1;
    const RowGradients got = row_gradients(p);
    EXPECT_GT(got.ids.size(), 0u);
    EXPECT_TRUE(std::ranges::all_of(got.ids, [](std::int64_t id) { return id >= 0 && id < 1'000; }));
    EXPECT_TRUE(std::ranges::all_of(got.weights, [](float value) { return std::isnan(value); }));
    EXPECT_TRUE(std::ranges::all_of(got.biases, [](float value) { return std::isnan(value); }));
    EXPECT_THROW(cuda::check(0), InvalidValue);
  }
}

constexpr DType kTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};

// Whether four columns are read at a time or one, and into which type, does not show in a sum.
TEST_F(CudaRows, SumsDependNeitherOnTheLayoutNorOnTheTypeOfTheGradients) {
  for (const std::int64_t dim : {0, 1, 3, 4, 5, 127, 128, 129, 512, 513, 1'028}) {
    for (const DType inputs : kTypes) {
      for (const std::int64_t sampled : {0, 40}) {
        if (sampled > 0 && dim != 4 && dim != 5 && dim != 128) continue;  // products take long on the emulated device
        SCOPED_TRACE(::testing::Message()
                     << "D = " << dim << ", S = " << sampled << ", inputs of type " << static_cast<int>(inputs));
        Problem<float> p({.batch = 30, .num_true = 2, .num_sampled = sampled, .dim = dim, .num_classes = 300}, 40);
        for (float& x : p.inputs) x = rounded(x, inputs);
        const RowGradients dense = row_gradients(p, {.inputs = inputs});
        expect_solved(dense, p.plan.ids, solve(p));
        const auto rounded_to = [&](DType dtype) {
          RowGradients all = dense;
          for (float& value : all.weights) value = rounded(value, dtype);
          for (float& value : all.biases) value = rounded(value, dtype);
          return all;
        };
        for (Format format : {Format{.gap = 1}, Format{.gap = 4}, Format{.skip = 1}, Format{.skip = 2}}) {
          format.inputs = inputs;
          EXPECT_EQ(row_gradients(p, format), dense);
        }
        if (inputs == DType::kFloat32) {
          EXPECT_EQ(row_gradients(p, {.gradients_skip = 1}), dense);
        }
        for (const DType gradients : {DType::kFloat16, DType::kBFloat16}) {
          for (const std::int64_t skip : {0, 1}) {
            EXPECT_EQ(row_gradients(p, {inputs, gradients, 0, 0, skip}), rounded_to(gradients));
          }
        }
      }
    }
  }
}

// Sums of the products in several parts.
TEST_F(CudaRows, SamplesOfALargeBatchAreRight) {
  for (const std::int64_t dim : {8, 70}) {
    const Problem<float> p({.batch = 700, .num_true = 1, .num_sampled = 64, .dim = dim, .num_classes = 300});
    expect_solved(row_gradients(p), p.plan.ids, solve(p));
  }
}

// Every class has the same row, so that V costs no memory.
RowGradients gradients_of_equal_rows(std::int64_t num_classes, const std::vector<std::int64_t>& labels,
                                     const std::vector<std::int64_t>& sampled) {
  Problem<float> p(
      {.batch = std::ssize(labels), .num_true = 1, .num_sampled = std::ssize(sampled), .dim = 6, .num_classes = 1});
  p.labels = labels;
  p.sampled = sampled;
  p.request.num_classes = num_classes;
  p.weight_shard.rows = p.bias_shard.rows = num_classes;
  p.weight_shard.row_stride = p.bias_shard.row_stride = 0;
  return row_gradients(p);
}

TEST_F(CudaRows, ClassesBeyond32BitsAreKeptApart) {
  constexpr std::int64_t kMany = (std::int64_t{1} << 36) - 1;
  const std::vector<std::int64_t> ids = {0,
                                         1,
                                         (std::int64_t{1} << 32) - 1,
                                         std::int64_t{1} << 32,
                                         (std::int64_t{1} << 32) + 1,
                                         std::int64_t{1} << 35,
                                         kMany - 1};
  const std::vector<std::int64_t> labels = {3, 0, 2, 6, 3, 4, 1, 2};
  const std::vector<std::int64_t> sampled = {5, 4, 6, 0, 0};
  const auto named = [&](const std::vector<std::int64_t>& ranks) {
    std::vector<std::int64_t> all;
    for (const std::int64_t rank : ranks) all.push_back(ids[static_cast<std::size_t>(rank)]);
    return all;
  };
  const RowGradients few = gradients_of_equal_rows(7, labels, sampled);
  const RowGradients many = gradients_of_equal_rows(kMany, named(labels), named(sampled));
  EXPECT_EQ(many.ids, ids);
  EXPECT_EQ(many.weights, few.weights);
  EXPECT_EQ(many.biases, few.biases);
  EXPECT_THROW(gradients_of_equal_rows(kMany + 1, labels, sampled), InvalidValue);
}

// The order of rows is computed beside the products, but not before the stream has drawn the samples, nor while an
// earlier call still reads the workspace.
TEST_F(CudaRows, CallsThatFollowEachOtherNeedNoSynchronisation) {
  const Problem<float> p({.batch = 1'100, .num_true = 1, .num_sampled = 20, .dim = 4, .num_classes = 300});
  const DeviceArray<float> weights(p.weights), biases(p.biases), inputs(p.inputs), true_count(1'100), sampled_count(20);
  const DeviceArray<std::int64_t> labels(p.labels), sampled(20), ids(1'120), row_count(1);
  const DeviceArray<float> grad_biases(1'120);
  const Shard weight_shard{weights.data(), 300, 4};
  const Shard bias_shard{biases.data(), 300, 1};
  SamplerParams sampling{.distribution = {.range_max = 300}, .num_sampled = 20, .seed = 1, .seed2 = 2};
  LossRequest request = p.request;
  request.wanted = {.loss = false, .grad_biases = true};
  request.weights.shards = {&weight_shard, 1};
  request.biases.shards = {&bias_shard, 1};
  request.inputs = inputs.data();
  request.targets.ids = labels.data();
  request.targets.expected_count = true_count.data();
  request.negatives.ids = sampled.data();
  request.negatives.expected_count = sampled_count.data();
  request.grad_loss = nullptr;
  const LossOutputs outputs{.grad_biases = grad_biases.data(), .row_ids = ids.data(), .row_count = row_count.data()};
  const cuda::LossPlan plan = cuda::plan(request, 0);
  const std::size_t bytes = plan.workspace_bytes;
  const std::size_t sampling_bytes = cuda::workspace_bytes(sampling);
  const DeviceArray<unsigned char> workspace(bytes), sampling_workspace(sampling_bytes);
  for (sampling.call = 0; sampling.call < 3; ++sampling.call) {
    cuda::sample_candidates(sampling, nullptr, labels.data(), 1'100,
                            {sampled.data(), sampled_count.data(), true_count.data()},
                            {sampling_workspace.data(), sampling_bytes}, {});
    cuda::run(plan, outputs, {workspace.data(), bytes}, {});
  }
  std::vector<std::int64_t> expected = plan_rows(p.labels, sampled.values()).ids;
  EXPECT_EQ(row_count.values()[0], std::ssize(expected));
  expected.resize(1'120, expected.back());
  EXPECT_EQ(ids.values(), expected);
}

}  // namespace
}  // namespace fastnce
