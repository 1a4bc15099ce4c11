// The handlers for JAX on a CUDA device, called as XLA calls them. Needs a device, or the emulated one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings/jax/jax_ffi.h"
#include "device_memory.h"
#include "device_update.h"
#include "fastnce/config.h"
#include "fastnce/cuda.h"
#include "fastnce/error.h"
#include "fastnce/sampler.h"
#include "problem.h"
#include "update_problem.h"
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

// Arrays of a step on the device, and the handler's call on them: ids and step as Id, the rate as R, tables as T.
template <class Id, class R = float, class T = float>
class JaxUpdate {
 public:
  explicit JaxUpdate(UpdateProblem<float>& problem)
      : host_(problem),
        ids_(std::vector<Id>(problem.ids.begin(), problem.ids.end())),
        rate_(std::vector<R>{static_cast<R>(problem.optimizer.learning_rate)}),
        step_(std::vector<Id>{static_cast<Id>(problem.optimizer.step)}),
        weights_(problem.weights, problem.rows),
        biases_(problem.biases, problem.bias_rows) {}

  // Updates the problem's arrays. Returns the error's text, or nothing.
  std::string run(const Rule& rule, bool with_biases = true) {
    const OptimizerStates kept = states_of(host_.optimizer.kind);
    const auto count = std::ssize(host_.ids);
    const Optimizer& numbers = host_.optimizer;
    CudaXlaCall call;
    call.operand(ids_, {count}).operand(rate_, {}).operand(step_, {});
    add(call, weights_, {host_.num_classes, host_.dim}, {count, host_.dim}, kept);
    if (with_biases) add(call, biases_, {host_.num_classes}, {count}, kept);
    call.attribute("beta1", numbers.beta1).attribute("beta2", numbers.beta2).attribute("eps", numbers.eps);
    call.attribute("eps_corrected", numbers.eps_corrected ? 1.0 : 0.0);
    call.attribute("eps_inside_sqrt", numbers.eps_inside_sqrt ? 1.0 : 0.0);
    call.attribute("kind", rule.kind).attribute("momentum", numbers.momentum);
    if (numbers.rounding_seed) call.attribute("rounding_seed", static_cast<std::int64_t>(*numbers.rounding_seed));
    call.attribute("weight_decay", numbers.weight_decay);
    std::string text = call.run(bindings::jax::kUpdateRowsOnCuda);
    weights_.download(host_.weights);
    biases_.download(host_.biases);
    return text;
  }

 private:
  struct OnDevice {
    OnDevice(const Updated<float>& host, const std::vector<float>& gradients)
        : table(std::vector<T>(host.table.begin(), host.table.end())), rows(gradients) {
      for (const std::vector<float>& state : host.states) states.emplace_back(state);
    }
    void download(Updated<float>& host) const {
      const std::vector<T> values = table.values();
      host.table.assign(values.begin(), values.end());
      for (int i = 0; i < kMostStates; ++i) host.states[i] = states[i].values();
    }
    DeviceArray<T> table;
    DeviceArray<float> rows;
    std::deque<DeviceArray<float>> states;
  };

  // Results are in the memory of their operands, as XLA is told.
  static void add(CudaXlaCall& call, const OnDevice& arrays, const XlaCall::Shape& table, const XlaCall::Shape& rows,
                  const OptimizerStates& kept) {
    const XlaCall::Shape state = kept.rowwise ? XlaCall::Shape{table[0]} : table;
    call.operand(arrays.table, table).operand(arrays.rows, rows);
    call.result(arrays.table, table);
    for (int i = 0; i < kept.count; ++i) {
      call.operand(arrays.states[i], state);
      call.result(arrays.states[i], state);
    }
  }

  UpdateProblem<float>& host_;
  DeviceArray<Id> ids_;
  DeviceArray<R> rate_;
  DeviceArray<Id> step_;
  OnDevice weights_, biases_;
};

template <class Id, class R>
void expect_the_cpus_updates() {
  for (const Rule& rule : kRules) {
    for (const std::int64_t dim : {1, 8, 33}) {
      SCOPED_TRACE(::testing::Message() << rule.kind << ", D = " << dim);
      UpdateProblem<float> here(rule, 40, dim, 60), there(rule, 40, dim, 60);
      // Padding, as a loss leaves it.
      for (UpdateProblem<float>* const p : {&here, &there}) {
        std::fill(p->ids.end() - 10, p->ids.end(), p->ids[49]);
        std::fill(p->rows.end() - 10 * dim, p->rows.end(), 0.0f);
        std::fill(p->bias_rows.end() - 10, p->bias_rows.end(), 0.0f);
      }
      here.run();
      ASSERT_EQ((JaxUpdate<Id, R>(there).run(rule)), "");
      EXPECT_LE(largest_error(there.weights, here.weights), kStepTolerance<float>);
      EXPECT_LE(largest_error(there.biases, here.biases), kStepTolerance<float>);
    }
  }
}

TEST_F(CudaJax, UpdatesAreTheCpus) {
  expect_the_cpus_updates<std::int32_t, float>();
  expect_the_cpus_updates<std::int64_t, double>();
}

TEST_F(CudaJax, WeightsAreUpdatedWithoutBiases) {
  for (const Rule& rule : kRules) {
    UpdateProblem<float> here(rule, 40, 8, 60), there(rule, 40, 8, 60);
    const std::vector<float> biases = there.biases.table;
    here.run();
    ASSERT_EQ(JaxUpdate<std::int32_t>(there).run(rule, false), "");
    EXPECT_LE(largest_error(there.weights, here.weights), kStepTolerance<float>) << rule.kind;
    EXPECT_EQ(there.biases.table, biases) << rule.kind;
  }
}

// By steps that are exact, so that each element has one of two neighbours, chosen by the seed.
TEST_F(CudaJax, TablesOf16BitsAreRoundedAsOnTheCpu) {
  for (const bool at_random : {false, true}) {
    UpdateProblem<float> here(kRules[0], 40, 9, 20), there(kRules[0], 40, 9, 20);
    for (UpdateProblem<float>* const p : {&here, &there}) {
      for (std::int64_t i = 0; i < 20; ++i) p->ids[i] = i;
      p->optimizer.learning_rate = 0.25;
      if (at_random) p->optimizer.rounding_seed = 7;
    }
    HalfTables halves(here, DType::kFloat16);
    update_rows(here.update(), halves.tables(), here.gradients());
    halves.widen();
    ASSERT_EQ((JaxUpdate<std::int32_t, float, _Float16>(there).run(kRules[0])), "");
    EXPECT_EQ(there.weights.table, here.weights.table);
    EXPECT_EQ(there.biases.table, here.biases.table);
  }
}

TEST_F(CudaJax, ABatchWithoutClassesUpdatesNoRow) {
  for (const Rule& rule : kRules) {
    UpdateProblem<float> p(rule, 10, 8, 20);
    const Updated<float> weights = p.weights, biases = p.biases;
    p.pad_all(0);
    ASSERT_EQ(JaxUpdate<std::int32_t>(p).run(rule), "");
    EXPECT_EQ(largest_error(p.weights, weights), 0.0) << rule.kind;
    EXPECT_EQ(largest_error(p.biases, biases), 0.0) << rule.kind;
  }
}

TEST_F(CudaJax, StepsThatAreNoneAreRefusedAndChangeNothing) {
  const auto expect_refused = [](const std::string& expected, const auto& change) {
    UpdateProblem<float> p(kRules[7], 10, 8, 20);
    change(p);
    const Updated<float> before = p.weights;
    const std::string text = JaxUpdate<std::int32_t>(p).run(kRules[7]);
    EXPECT_NE(text.find(expected), std::string::npos) << text;
    EXPECT_EQ(largest_error(p.weights, before), 0.0);
  };
  expect_refused("lr = -1", [](UpdateProblem<float>& p) { p.optimizer.learning_rate = -1.0; });
  expect_refused("lr = nan", [](UpdateProblem<float>& p) { p.optimizer.learning_rate = NAN; });
  expect_refused("step = 0", [](UpdateProblem<float>& p) { p.optimizer.step = 0; });
}

TEST_F(CudaJax, IdsOutOfRangeAreLeftOutAndReported) {
  UpdateProblem<float> p(kRules[3], 40, 8, 60);
  for (std::size_t i = 0; i < p.ids.size(); i += 3) p.ids[i] = i % 2 == 0 ? -1 : 40;
  const Updated<Real> weights = solve(p.optimizer, p.weights, p.ids, p.rows, 40);
  ASSERT_EQ(JaxUpdate<std::int32_t>(p).run(kRules[3]), "");
  EXPECT_LE(largest_error(p.weights, weights), kStepTolerance<float>);
  EXPECT_THROW(cuda::check(0), InvalidValue);
}

}  // namespace
}  // namespace fastnce
