// The handlers for JAX on a CUDA device, called as XLA calls them. Needs a device, or the emulated one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings/jax/jax_ffi.h"
#include "device_memory.h"
#include "fastnce/config.h"
#include "fastnce/sampler.h"
#include "problem.h"
#include "xla_call.h"

namespace fastnce {
namespace {

// Of scratch memory: XLA refuses to be asked for more, and these tests give no more.
constexpr std::size_t kMostAlignment = 16;

// XLA's side, with the default stream of device 0 and its memory.
const xla::Api& xla_on_cuda() {
  static const xla::Api api = [] {
    xla::Api made = xla_side();
    made.stream_get = [](xla::StreamGet* arguments) -> xla::Error* {
      arguments->stream = nullptr;
      return nullptr;
    };
    made.device_ordinal_get = [](xla::DeviceOrdinalGet* arguments) -> xla::Error* {
      arguments->ordinal = 0;
      return nullptr;
    };
    made.memory_allocate = [](xla::MemoryAllocate* arguments) -> xla::Error* {
      EXPECT_LE(arguments->alignment, kMostAlignment);
      arguments->data = static_cast<std::byte*>(cuda::allocate(arguments->size + kMostAlignment, {})) + kMostAlignment;
      return nullptr;
    };
    made.memory_free = [](xla::MemoryFree* arguments) -> xla::Error* {
      cuda::release(static_cast<std::byte*>(arguments->data) - kMostAlignment, {});
      return nullptr;
    };
    return made;
  }();
  return api;
}

class CudaXlaCall : public XlaCall {
 public:
  explicit CudaXlaCall(const xla::Api& api = xla_on_cuda()) : XlaCall(api) {}
  template <class T>
  CudaXlaCall& operand(const DeviceArray<T>& array, Shape shape) {
    XlaCall::operand(array.data(), std::move(shape));
    return *this;
  }
  CudaXlaCall& operands_without_elements(int count) {
    XlaCall::operands_without_elements(count);
    return *this;
  }
  template <class T>
  CudaXlaCall& result(const DeviceArray<T>& array, Shape shape) {
    XlaCall::result(array.data(), std::move(shape));
    return *this;
  }
};

class CudaJax : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string reason = cuda::unavailable_reason();
    if (!reason.empty()) GTEST_SKIP() << "SKIPPED: no CUDA device: " << reason;
  }
};

// Ids go in as Id, and come out as 64-bit words in arrays of Id.
template <class Id>
void expect_solved(std::string_view precision, double allowed) {
  constexpr Sizes kSizes{.batch = 70, .num_true = 2, .num_sampled = 130, .dim = 36, .num_classes = 90};
  Problem<float> p(kSizes, 60);
  const Solution expected = solve(p);
  const auto [batch, num_true, num_sampled, dim, num_classes] = p.sizes;
  const std::int64_t rows = batch * num_true + num_sampled;
  const DeviceArray<float> weights(p.weights), biases(p.biases), inputs(p.inputs), true_count(p.true_count),
      sampled_count(p.sampled_count), grad_loss(p.grad_loss);
  const DeviceArray<Id> labels(std::vector<Id>(p.labels.begin(), p.labels.end()));
  const DeviceArray<Id> sampled(std::vector<Id>(p.sampled.begin(), p.sampled.end()));
  const DeviceArray<float> loss(p.loss.size()), grad_inputs(p.inputs.size()),
      grad_weights(static_cast<std::size_t>(rows * dim)), grad_biases(static_cast<std::size_t>(rows));
  constexpr std::int64_t kWords = 8 / sizeof(Id);
  const DeviceArray<Id> row_ids(static_cast<std::size_t>(rows * kWords));
  const auto call = [&](std::int64_t with_loss, std::int64_t with_rows) {
    CudaXlaCall made;
    if (!precision.empty()) made.attribute("precision", precision);
    return made.operand(weights, {num_classes, dim})
        .operand(biases, {num_classes})
        .operand(labels, {batch, num_true})
        .operand(inputs, {batch, dim})
        .operand(sampled, {num_sampled})
        .operand(true_count, {batch, num_true})
        .operand(sampled_count, {num_sampled})
        .operands_without_elements(7)
        .operand(grad_loss, {batch})
        .result(loss, {with_loss * batch})
        .result(grad_inputs, {with_rows * batch, dim})
        .result(row_ids, kWords == 1 ? XlaCall::Shape{with_rows * rows} : XlaCall::Shape{with_rows * rows, kWords})
        .result(grad_weights, {with_rows * rows, dim})
        .result(grad_biases, {with_rows * rows})
        .attribute("num_classes", num_classes)
        .attribute("remove_accidental_hits", false)
        .run(bindings::jax::kLossOnCuda);
  };
  ASSERT_EQ(call(1, 0), "");  // the loss alone
  EXPECT_LE(relative_error(loss.values(), expected.loss), allowed);
  ASSERT_EQ(call(0, 1), "");  // the gradients alone
  EXPECT_LE(relative_error(grad_inputs.values(), expected.grad_inputs), allowed);

  const std::vector<Id> words = row_ids.values();
  std::vector<float> dw = grad_weights.values(), dc = grad_biases.values();
  const std::size_t used = p.plan.ids.size();
  for (std::size_t row = 0; row < static_cast<std::size_t>(rows); ++row) {
    EXPECT_EQ(words[row * kWords], p.plan.ids[std::min(row, used - 1)]);
    if (row >= used) {
      EXPECT_EQ(dc[row], 0.0f);
    }
  }
  dw.resize(used * static_cast<std::size_t>(dim));
  dc.resize(used);
  EXPECT_LE(relative_error(dw, expected.grad_weights), allowed);
  EXPECT_LE(relative_error(dc, expected.grad_biases), allowed);
}

TEST_F(CudaJax, LossAndGradientsAreThoseOfTheFormulas) {
  expect_solved<std::int32_t>("highest", tolerance(Precision::kHighest));
  expect_solved<std::int64_t>("highest", tolerance(Precision::kHighest));
  expect_solved<std::int32_t>("medium", tolerance(Precision::kMedium));
  expect_solved<std::int32_t>("", tolerance(default_precision()));
}

TEST_F(CudaJax, ErrorsComeBackAsText) {
  const DeviceArray<float> counts(std::size_t{5});
  const DeviceArray<std::int32_t> classes(std::vector<std::int32_t>{0, 1}), ids(std::size_t{10});
  const DeviceArray<std::uint32_t> key(std::vector<std::uint32_t>{3, 4});
  const std::string text = CudaXlaCall()
                               .operand(key, {2})
                               .operand(classes, {2, 1})
                               .result(ids, {5, 2})
                               .result(counts, {2, 1})
                               .result(counts, {5})
                               .attribute("classes_name", "labels")
                               .attribute("range_max", std::int64_t{4})
                               .attribute("range_name", "num_classes")
                               .attribute("unique", true)
                               .run(bindings::jax::kSamplerOnCuda);
  EXPECT_NE(text.find("num_sampled = 5"), std::string::npos) << text;
}

TEST_F(CudaJax, LabelsMayBeLists) {
  const std::vector<float> one = {1.0f};
  const DeviceArray<float> number(one), result(std::size_t{1});
  const DeviceArray<std::int32_t> id(std::vector<std::int32_t>{0}), offsets(std::vector<std::int32_t>{0, 1});
  const std::string text = CudaXlaCall()
                               .operand(number, {1, 1})
                               .operand(number, {1})
                               .operand(id, {1})
                               .operand(number, {1, 1})
                               .operand(id, {1})
                               .operands_without_elements(4)
                               .operand(offsets, {2})
                               .operands_without_elements(5)
                               .result(result, {1})
                               .result(result, {0, 1})
                               .result(id, {0, 2})
                               .result(result, {0, 1})
                               .result(result, {0})
                               .attribute("num_classes", std::int64_t{1})
                               .run(bindings::jax::kLossOnCuda);
  EXPECT_EQ(text, "");
  EXPECT_NEAR(result.values()[0], 2 * std::log1p(std::exp(2.0f)) - 2, 1e-5f);  // the label and the sample are class 0
}

TEST_F(CudaJax, LossesOverAllClassesAreRefused) {
  const DeviceArray<float> number(std::vector<float>{1.0f}), result(std::size_t{1});
  const DeviceArray<std::int32_t> id(std::vector<std::int32_t>{0});
  const std::string text = CudaXlaCall()
                               .operand(number, {1, 1})
                               .operand(number, {1})
                               .operand(id, {1, 1})
                               .operand(number, {1, 1})
                               .operands_without_elements(11)
                               .result(result, {1})
                               .result(result, {0, 1})
                               .result(id, {0, 2})
                               .result(result, {0, 1})
                               .result(result, {0})
                               .attribute("all_classes", true)
                               .attribute("num_classes", std::int64_t{1})
                               .run(bindings::jax::kLossOnCuda);
  EXPECT_NE(text.find("expected arrays on the CPU"), std::string::npos) << text;
}

// XLA has memory for one array of scratch, and gives what comes back to work on another stream than the call's.
TEST_F(CudaJax, AfterAnErrorMemoryGoesBackOnceItsKernelsHaveRun) {
  static int left;
  left = 1;
  static void* stream;
  const OwnStream own;
  stream = static_cast<const cuda::Stream&>(own).handle;
  xla::Api api = xla_on_cuda();
  api.stream_get = [](xla::StreamGet* arguments) -> xla::Error* {
    arguments->stream = stream;
    return nullptr;
  };
  api.memory_allocate = [](xla::MemoryAllocate* arguments) -> xla::Error* {
    if (left-- == 0) return new xla::Error{xla::ErrorCode::kResourceExhausted, "no memory left"};
    xla_on_cuda().memory_allocate(arguments);
    cuda::synchronize({});
    return nullptr;
  };
  const std::vector<float> one = {1.0f};
  const DeviceArray<float> number(one), result(std::size_t{1});
  const DeviceArray<std::int32_t> id(std::vector<std::int32_t>{0});  // to be widened
  cuda::synchronize({});
  const std::string text = CudaXlaCall(api)
                               .operand(number, {1, 1})
                               .operand(number, {1})
                               .operand(id, {1, 1})
                               .operand(number, {1, 1})
                               .operand(id, {1})
                               .operand(number, {1, 1})
                               .operand(number, {1})
                               .operands_without_elements(8)
                               .result(result, {1})
                               .result(result, {0, 1})
                               .result(id, {0, 2})
                               .result(result, {0, 1})
                               .result(result, {0})
                               .attribute("num_classes", std::int64_t{1})
                               .run(bindings::jax::kLossOnCuda);
  EXPECT_NE(text.find("XLA gave no scratch memory"), std::string::npos) << text;
  EXPECT_EQ(left, -1);
}

void expect_draws(const std::vector<std::uint32_t>& words, std::uint64_t seed, std::uint64_t seed2) {
  const SamplerParams params{
      .distribution = {.range_max = 100}, .num_sampled = 40, .unique = true, .seed = seed, .seed2 = seed2};
  std::vector<std::int64_t> expected(40);
  const std::int64_t tries = sample_candidates(params, expected.data());
  std::vector<float> expected_counts(40);
  fastnce::expected_counts(params, tries, expected, expected_counts.data());

  const DeviceArray<std::uint32_t> key(words);
  const DeviceArray<std::int32_t> classes(std::vector<std::int32_t>{7, 99, 100}), ids(std::size_t{80});
  const DeviceArray<float> true_count(std::size_t{3}), sampled_count(std::size_t{40});
  ASSERT_EQ(CudaXlaCall()
                .operand(key, {std::ssize(words)})
                .operand(classes, {3, 1})
                .result(ids, {40, 2})
                .result(true_count, {3, 1})
                .result(sampled_count, {40})
                .attribute("classes_name", "labels")
                .attribute("range_max", std::int64_t{100})
                .attribute("range_name", "num_classes")
                .attribute("unique", true)
                .run(bindings::jax::kSamplerOnCuda),
            "");
  const std::vector<std::int32_t> drawn = ids.values();
  for (std::size_t s = 0; s < expected.size(); ++s) EXPECT_EQ(drawn[2 * s], expected[s]);
  EXPECT_EQ(sampled_count.values(), expected_counts);
  const std::vector<float> counts = true_count.values();
  EXPECT_GT(counts[0], counts[1]);
  EXPECT_TRUE(std::isnan(counts[2]));  // out of range
}

TEST_F(CudaJax, KeysDrawTheClassesThatTheirWordsDraw) {
  expect_draws({5, 4'000'000'000}, 5, 4'000'000'000);
  expect_draws({0, 0}, 0, 0);
  expect_draws({1, 2, 3, 4}, (std::uint64_t{1} << 32) + 2, (std::uint64_t{3} << 32) + 4);
}

}  // namespace
}  // namespace fastnce
