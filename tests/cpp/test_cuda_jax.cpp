// The handlers for JAX on a CUDA device, called as XLA calls them. Needs a device, or the emulated one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings/jax_ffi.h"
#include "device_memory.h"
#include "fastnce/config.h"
#include "fastnce/sampler.h"
#include "problem.h"

struct XLA_FFI_Error {
  std::string message;
};

namespace fastnce {
namespace {

// As much of XLA's side as the handlers use: errors, the default stream of device 0, and its memory.
const XLA_FFI_Api& xla_side() {
  static const XLA_FFI_Api api = [] {
    XLA_FFI_Api made{};
    made.struct_size = XLA_FFI_Api_STRUCT_SIZE;
    made.XLA_FFI_Error_Create = [](XLA_FFI_Error_Create_Args* args) { return new XLA_FFI_Error{args->message}; };
    made.XLA_FFI_Error_GetMessage = [](XLA_FFI_Error_GetMessage_Args* args) {
      args->message = args->error->message.c_str();
    };
    made.XLA_FFI_Error_Destroy = [](XLA_FFI_Error_Destroy_Args* args) { delete args->error; };
    made.XLA_FFI_Stream_Get = [](XLA_FFI_Stream_Get_Args* args) -> XLA_FFI_Error* {
      args->stream = nullptr;
      return nullptr;
    };
    made.XLA_FFI_DeviceOrdinal_Get = [](XLA_FFI_DeviceOrdinal_Get_Args* args) -> XLA_FFI_Error* {
      args->device_ordinal = 0;
      return nullptr;
    };
    made.XLA_FFI_DeviceMemory_Allocate = [](XLA_FFI_DeviceMemory_Allocate_Args* args) -> XLA_FFI_Error* {
      args->data = cuda::allocate(args->size, {});
      return nullptr;
    };
    made.XLA_FFI_DeviceMemory_Free = [](XLA_FFI_DeviceMemory_Free_Args* args) -> XLA_FFI_Error* {
      cuda::release(args->data, {});
      return nullptr;
    };
    return made;
  }();
  return api;
}

class XlaCall {
 public:
  using Shape = std::vector<std::int64_t>;

  template <class T>
  XlaCall& operand(const DeviceArray<T>& array, Shape shape) {
    operands_.push_back(buffer(array, std::move(shape)));
    return *this;
  }
  template <class T>
  XlaCall& result(const DeviceArray<T>& array, Shape shape) {
    results_.push_back(buffer(array, std::move(shape)));
    return *this;
  }
  // In the order of their names.
  XlaCall& attribute(const char* name, std::int64_t value) {
    return scalar(name, XLA_FFI_DataType_S64, &numbers_.emplace_back(value));
  }
  XlaCall& attribute(const char* name, std::same_as<bool> auto value) {
    return scalar(name, XLA_FFI_DataType_PRED, &flags_.emplace_back(value));
  }
  XlaCall& attribute(const char* name, std::string_view value) {
    return add(name, XLA_FFI_AttrType_STRING, &spans_.emplace_back(value.data(), value.size()));
  }

  // The error's text, or nothing.
  std::string run(XLA_FFI_Handler* handler) {
    std::vector<void*> operands, results;
    for (XLA_FFI_Buffer& buffer : operands_) operands.push_back(&buffer);
    for (XLA_FFI_Buffer& buffer : results_) results.push_back(&buffer);
    std::vector<XLA_FFI_ArgType> operand_types(operands.size(), XLA_FFI_ArgType_BUFFER);
    std::vector<XLA_FFI_RetType> result_types(results.size(), XLA_FFI_RetType_BUFFER);
    XLA_FFI_CallFrame frame{};
    frame.struct_size = XLA_FFI_CallFrame_STRUCT_SIZE;
    frame.api = &xla_side();
    frame.stage = XLA_FFI_ExecutionStage_EXECUTE;
    frame.args = {XLA_FFI_Args_STRUCT_SIZE, nullptr, std::ssize(operands), operand_types.data(), operands.data()};
    frame.rets = {XLA_FFI_Rets_STRUCT_SIZE, nullptr, std::ssize(results), result_types.data(), results.data()};
    frame.attrs = {XLA_FFI_Attrs_STRUCT_SIZE, nullptr,       std::ssize(names_),
                   attribute_types_.data(),   names_.data(), attributes_.data()};
    XLA_FFI_Error* const error = handler(&frame);
    const std::string text = error == nullptr ? "" : error->message;
    delete error;
    return text;
  }

 private:
  static XLA_FFI_DataType type(float) { return XLA_FFI_DataType_F32; }
  static XLA_FFI_DataType type(std::int32_t) { return XLA_FFI_DataType_S32; }
  static XLA_FFI_DataType type(std::int64_t) { return XLA_FFI_DataType_S64; }
  static XLA_FFI_DataType type(std::uint32_t) { return XLA_FFI_DataType_U32; }

  template <class T>
  XLA_FFI_Buffer buffer(const DeviceArray<T>& array, Shape shape) {
    Shape& dims = shapes_.emplace_back(std::move(shape));
    return {XLA_FFI_Buffer_STRUCT_SIZE, nullptr, type(T{}), array.data(), std::ssize(dims), dims.data()};
  }
  XlaCall& scalar(const char* name, XLA_FFI_DataType dtype, void* value) {
    return add(name, XLA_FFI_AttrType_SCALAR, &scalars_.emplace_back(dtype, value));
  }
  XlaCall& add(const char* name, XLA_FFI_AttrType type, void* value) {
    names_.push_back(&spans_.emplace_back(name, std::string_view(name).size()));
    attribute_types_.push_back(type);
    attributes_.push_back(value);
    return *this;
  }

  std::deque<Shape> shapes_;
  std::deque<XLA_FFI_Buffer> operands_, results_;
  std::deque<std::int64_t> numbers_;
  std::deque<bool> flags_;
  std::deque<XLA_FFI_ByteSpan> spans_;
  std::deque<XLA_FFI_Scalar> scalars_;
  std::vector<XLA_FFI_ByteSpan*> names_;
  std::vector<XLA_FFI_AttrType> attribute_types_;
  std::vector<void*> attributes_;
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
    return XlaCall()
        .operand(weights, {num_classes, dim})
        .operand(biases, {num_classes})
        .operand(labels, {batch, num_true})
        .operand(inputs, {batch, dim})
        .operand(sampled, {num_sampled})
        .operand(true_count, {batch, num_true})
        .operand(sampled_count, {num_sampled})
        .operand(grad_loss, {batch})
        .result(loss, {with_loss * batch})
        .result(grad_inputs, {with_rows * batch, dim})
        .result(row_ids, kWords == 1 ? XlaCall::Shape{with_rows * rows} : XlaCall::Shape{with_rows * rows, kWords})
        .result(grad_weights, {with_rows * rows, dim})
        .result(grad_biases, {with_rows * rows})
        .attribute("num_classes", num_classes)
        .attribute("precision", precision)
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
  const std::string text = XlaCall()
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

void expect_draws(const std::vector<std::uint32_t>& words, std::uint64_t seed, std::uint64_t seed2) {
  const LogUniformParams params{.range_max = 100, .num_sampled = 40, .unique = true, .seed = seed, .seed2 = seed2};
  std::vector<std::int64_t> expected(40);
  const std::int64_t tries = log_uniform_sample(params, expected.data());
  std::vector<float> expected_counts(40);
  log_uniform_expected_count(params, tries, expected, expected_counts.data());

  const DeviceArray<std::uint32_t> key(words);
  const DeviceArray<std::int32_t> classes(std::vector<std::int32_t>{7, 99, 100}), ids(std::size_t{80});
  const DeviceArray<float> true_count(std::size_t{3}), sampled_count(std::size_t{40});
  ASSERT_EQ(XlaCall()
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
