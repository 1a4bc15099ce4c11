// Updates of rows on a device: those of the CPU, in each width of the kernel and each layout of tables and states.
// Needs a device, or the emulated one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "device_memory.h"
#include "device_problem.h"
#include "device_update.h"
#include "fastnce/cuda.h"
#include "fastnce/error.h"
#include "problem.h"
#include "update_problem.h"

namespace fastnce {
namespace {

class CudaOptimizer : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string reason = cuda::unavailable_reason();
    if (!reason.empty()) GTEST_SKIP() << "SKIPPED: no CUDA device: " << reason;
  }
};

bool same(const Updated<float>& a, const Updated<float>& b) {
  return a.table == b.table && std::ranges::equal(a.states, b.states);
}

// D = 1 and biases take one column a thread, multiples of 4 four a lane, others one a lane.
constexpr std::int64_t kWidths[] = {1, 2, 4, 7, 32, 36, 129, 132};

TEST_F(CudaOptimizer, EachKindIsTheCpus) {
  for (const Rule& rule : kRules) {
    for (const std::int64_t dim : kWidths) {
      SCOPED_TRACE(::testing::Message() << rule.kind << ", D = " << dim);
      UpdateProblem<float> here(rule, 40, dim, 60), there(rule, 40, dim, 60);
      here.run();
      DeviceUpdate(there).run();
      EXPECT_LE(largest_error(there.weights, here.weights), kStepTolerance<float>);
      EXPECT_LE(largest_error(there.biases, here.biases), kStepTolerance<float>);
    }
  }
}

TEST_F(CudaOptimizer, WeightsAndBiasesAreUpdatedAlone) {
  for (const Rule& rule : kRules) {
    SCOPED_TRACE(rule.kind);
    const UpdateProblem<float> before(rule, 20, 8, 9);
    UpdateProblem<float> weights_alone(rule, 20, 8, 9), biases_alone(rule, 20, 8, 9), both(rule, 20, 8, 9);
    DeviceUpdate(both).run();
    DeviceUpdate one(weights_alone);
    one.gradients.biases = nullptr;
    one.run();
    EXPECT_TRUE(same(weights_alone.weights, both.weights));
    EXPECT_TRUE(same(weights_alone.biases, before.biases));
    DeviceUpdate other(biases_alone);
    other.gradients.weights = nullptr;
    other.run();
    EXPECT_TRUE(same(biases_alone.weights, before.weights));
    EXPECT_TRUE(same(biases_alone.biases, both.biases));
  }
}

// Numbers of few bits: sums are exact in any order and products need no rounding, so that whatever the compiler joins,
// the CPU and the device have the same numbers to the bit.
void make_exact(UpdateProblem<float>& p) {
  const auto coarse = [](std::vector<float>& values) {
    for (float& value : values) value = std::nearbyint(value * 8) / 8;
  };
  const auto powers = [](std::vector<float>& values) {
    for (float& value : values) {
      value = std::copysign(std::abs(value) < 0.5f ? 0.25f : std::abs(value) < 1.0f ? 0.5f : 2.0f, value);
    }
  };
  for (Updated<float>* const updated : {&p.weights, &p.biases}) {
    coarse(updated->table);
    for (std::vector<float>& state : updated->states) coarse(state);
  }
  powers(p.rows);
  powers(p.bias_rows);
  for (std::int64_t i = 0; i < std::ssize(p.ids); ++i) p.ids[i] = 7 * i % p.num_classes;  // each once
  p.optimizer.learning_rate = 0.25;
  p.optimizer.momentum = p.optimizer.beta1 = p.optimizer.beta2 = p.optimizer.eps = 0.5;
  p.optimizer.weight_decay = 0.0;
}

TEST_F(CudaOptimizer, TheLayoutOfTheArraysDoesNotShow) {
  const Layout layouts[] = {
      {.gap = 1},           {.gap = 4},        {.skip = 1},
      {.skip = 2},          {.state_skip = 1}, {.gradient_gap = 3},
      {.gradient_skip = 1}, {.shards = 3},     {.shards = 5, .partition = Partition::kMod, .gap = 2}};
  for (const Rule& rule : kRules) {
    for (const std::int64_t dim : {1, 8, 9}) {
      UpdateProblem<float> here(rule, 33, dim, 20);
      make_exact(here);
      const UpdateProblem<float> before(rule, 33, dim, 20);
      UpdateProblem<float> dense(rule, 33, dim, 20);
      make_exact(dense);
      DeviceUpdate(dense).run();
      here.run();
      EXPECT_TRUE(same(dense.weights, here.weights)) << rule.kind << ", D = " << dim;
      for (const Layout& layout : layouts) {
        SCOPED_TRACE(::testing::Message() << rule.kind << ", D = " << dim << ", layout " << &layout - layouts);
        UpdateProblem<float> p(rule, 33, dim, 20);
        make_exact(p);
        DeviceUpdate(p, layout).run();
        EXPECT_TRUE(same(p.weights, here.weights));
        EXPECT_TRUE(same(p.biases, here.biases));
      }
    }
  }
}

TEST_F(CudaOptimizer, TablesOf16BitsAreRoundedAsOnTheCpu) {
  for (const Rule& rule : kRules) {
    for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
      for (const std::optional<std::uint64_t> seed : {std::optional<std::uint64_t>{}, {7}}) {
        for (const std::int64_t dim : {1, 8, 9}) {
          SCOPED_TRACE(::testing::Message() << rule.kind << ", D = " << dim << ", type " << static_cast<int>(dtype)
                                            << (seed ? ", at random" : ", to nearest"));
          UpdateProblem<float> here(rule, 33, dim, 20), there(rule, 33, dim, 20);
          for (UpdateProblem<float>* const p : {&here, &there}) {
            make_exact(*p);
            p->optimizer.rounding_seed = seed;
            // Beside numbers of all sizes, those whose units no longer shrink, and that no number is.
            for (std::size_t i = 0; i < p->weights.table.size(); i += 5) p->weights.table[i] *= 1e-5f;
            p->weights.table[7 % p->weights.table.size()] = INFINITY;
          }
          HalfTables halves(here, dtype);
          update_rows(here.update(), halves.tables(), here.gradients());
          halves.widen();
          DeviceUpdate(there, {.dtype = dtype}).run();
          EXPECT_EQ(there.weights.table, here.weights.table);
          EXPECT_EQ(there.biases.table, here.biases.table);
        }
      }
    }
  }
}

TEST_F(CudaOptimizer, GradientsOf16BitsAreTaken) {
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    for (const Layout& layout : {Layout{}, Layout{.gradient_gap = 2}, Layout{.gradient_skip = 1}}) {
      UpdateProblem<float> here(kRules[2], 33, 8, 20), there(kRules[2], 33, 8, 20);
      make_exact(here);
      make_exact(there);
      here.run();
      Layout narrow = layout;
      narrow.gradient_dtype = dtype;
      DeviceUpdate(there, narrow).run();
      EXPECT_TRUE(same(there.weights, here.weights));
      EXPECT_TRUE(same(there.biases, here.biases));
    }
  }
}

// One block sorts up to 12 * 1024 entries; more are sorted by several.
TEST_F(CudaOptimizer, AnyNumberOfGradientsIsAddedUp) {
  for (const std::int64_t count : {1, 33, 1'025, 12 * 1'024, 14'000}) {
    for (const std::int64_t distinct : {1, 50, 9'000}) {
      SCOPED_TRACE(::testing::Message() << count << " gradients of " << distinct << " classes");
      UpdateProblem<float> here(kRules[3], 9'000, 4, count, distinct), there(kRules[3], 9'000, 4, count, distinct);
      here.run();
      DeviceUpdate(there).run();
      // A sum of thousands of terms that cancel.
      EXPECT_LE(largest_error(there.weights, here.weights), 20 * kStepTolerance<float>);
      EXPECT_LE(largest_error(there.biases, here.biases), 20 * kStepTolerance<float>);
    }
  }
}

TEST_F(CudaOptimizer, IdsOutOfRangeAreLeftOutAndReported) {
  for (const std::int64_t every : {1, 3}) {
    for (const Rule& rule : kRules) {
      SCOPED_TRACE(::testing::Message() << rule.kind << ", every " << every << "th out of range");
      UpdateProblem<float> here(rule, 40, 8, 60), there(rule, 40, 8, 60);
      for (std::size_t i = 0; i < there.ids.size(); i += every) there.ids[i] = i % 2 == 0 ? -1 : 40;
      const Updated<Real> weights = solve(here.optimizer, here.weights, there.ids, here.rows, 40);
      const Updated<Real> biases = solve(here.optimizer, here.biases, there.ids, here.bias_rows, 40);
      DeviceUpdate(there).run();
      EXPECT_LE(largest_error(there.weights, weights), kStepTolerance<float>);
      EXPECT_LE(largest_error(there.biases, biases), kStepTolerance<float>);
      EXPECT_THROW(cuda::check(0), InvalidValue);
    }
  }
}

TEST_F(CudaOptimizer, NoGradientsChangeNothing) {
  for (const Rule& rule : kRules) {
    UpdateProblem<float> p(rule, 10, 4, 0), before(rule, 10, 4, 0);
    DeviceUpdate(p).run();
    EXPECT_TRUE(same(p.weights, before.weights) && same(p.biases, before.biases)) << rule.kind;
  }
}

TEST_F(CudaOptimizer, PaddingAloneUpdatesNoRow) {
  for (const Rule& rule : kRules) {
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      SCOPED_TRACE(rule.kind);
      UpdateProblem<float> p(rule, 10, 40, 20), before(rule, 10, 40, 20);
      p.pad_all(4);
      DeviceUpdate(p, {.gradient_dtype = dtype}).run();
      EXPECT_TRUE(same(p.weights, before.weights) && same(p.biases, before.biases));
    }
  }
}

TEST_F(CudaOptimizer, GradientsBesidePaddingAreTakenAsOnTheCpu) {
  const auto expect_the_cpus = [](const Rule& rule, const auto& change) {
    UpdateProblem<float> here(rule, 10, 40, 20), there(rule, 10, 40, 20), before(rule, 10, 40, 20);
    for (UpdateProblem<float>* const p : {&here, &there}) {
      p->pad_all(4);
      change(*p);
    }
    here.run();
    DeviceUpdate(there).run();
    EXPECT_FALSE(same(here.weights, before.weights));
    EXPECT_LE(largest_error(there.weights, here.weights), kStepTolerance<float>);
    EXPECT_LE(largest_error(there.biases, here.biases), kStepTolerance<float>);
  };
  // They decay rows without a gradient.
  for (const Rule& rule : {kRules[1], kRules[3], kRules[6], kRules[7]}) {
    SCOPED_TRACE(rule.kind);
    expect_the_cpus(rule, [](UpdateProblem<float>& p) { p.rows[0] = 1.0f; });
    expect_the_cpus(rule, [](UpdateProblem<float>& p) { p.rows[5 * 40 + 39] = 1e-30f; });
    expect_the_cpus(rule, [](UpdateProblem<float>& p) { p.bias_rows[0] = -1.0f; });
    expect_the_cpus(rule, [](UpdateProblem<float>& p) { p.ids[0] = 0; });
    expect_the_cpus(rule, [](UpdateProblem<float>& p) { p.padded = false; });
  }
}

TEST_F(CudaOptimizer, CompleteRowsAreThoseThatTheDeviceCounts) {
  for (const Rule& rule : kRules) {
    for (const std::int64_t dim : {1, 7, 8}) {
      for (const std::int64_t count : {0, 1, 11, 20}) {
        SCOPED_TRACE(::testing::Message() << rule.kind << ", D = " << dim << ", " << count << " rows");
        UpdateProblem<float> here(rule, 40, dim, 20), there(rule, 40, dim, 20);
        for (std::int64_t i = 0; i < 20; ++i) here.ids[i] = there.ids[i] = std::min<std::int64_t>(2 * i, 2 * count);
        DeviceUpdate device(there);
        device.run_complete(count);
        here.ids.resize(count);
        here.run();
        EXPECT_LE(largest_error(there.weights, here.weights), kStepTolerance<float>);
        EXPECT_LE(largest_error(there.biases, here.biases), kStepTolerance<float>);
      }
    }
  }
}

TEST_F(CudaOptimizer, RowsOfALossAreUpdatedAsOnTheCpu) {
  for (const LossFamily family : {LossFamily::kLogistic, LossFamily::kSoftmax}) {
    for (const Rule& rule : kRules) {
      SCOPED_TRACE(rule.kind);
      const Sizes sizes{.batch = 12, .num_true = 2, .num_sampled = 30, .dim = 8, .num_classes = 50};
      Problem<float> here(sizes), there(sizes);
      UpdateProblem<float> step_here(rule, 50, 8, 0), step_there(rule, 50, 8, 0);
      here.request.loss.family = there.request.loss.family = family;
      for (UpdateProblem<float>* const step : {&step_here, &step_there}) {
        step->weights.table = here.weights;
        step->biases.table = here.biases;
      }
      LossRequest request = here.request;
      request.weights.shards = {&step_here.weight_shard, 1};
      request.biases.shards = {&step_here.bias_shard, 1};
      const RowUpdate update = step_here.update();
      LossOutputs outputs = here.outputs;
      outputs.grad_weights = outputs.grad_biases = nullptr;
      outputs.update = &update;
      run(plan(request), outputs);

      DeviceProblem problem(there);
      DeviceUpdate device(step_there);
      problem.request.weights = device.tables.weights;
      problem.request.biases = device.tables.biases;
      compute_on_device(problem.request, problem.outputs);
      cuda::update_complete_rows(device.update, problem.request,
                                 {.count = 12 * 2 + 30,
                                  .ids = problem.outputs.row_ids,
                                  .weights = problem.outputs.grad_weights,
                                  .weights_stride = 8,
                                  .biases = static_cast<const float*>(problem.outputs.grad_biases)},
                                 problem.outputs.row_count, {});
      device.download();
      EXPECT_LE(largest_error(step_there.weights, step_here.weights), kStepTolerance<float>);
      EXPECT_LE(largest_error(step_there.biases, step_here.biases), kStepTolerance<float>);
    }
  }
}

TEST_F(CudaOptimizer, WhatTheDeviceCannotDoIsRefused) {
  UpdateProblem<float> p(kRules[7], 10, 4, 5);
  DeviceUpdate device(p);
  const auto refused = [&](const std::string& expected, const auto& change) {
    const RowUpdate update = device.update;
    const GradientRows gradients = device.gradients;
    change();
    try {
      device.run();
      ADD_FAILURE() << "expected: " << expected;
    } catch (const InvalidValue& error) {
      EXPECT_NE(std::string(error.what()).find(expected), std::string::npos) << error.what();
    }
    device.update = update;
    device.gradients = gradients;
  };
  refused("lr = -1", [&] { device.update.optimizer.learning_rate = -1; });
  refused("weights_states", [&] { device.update.weights_states[1] = nullptr; });
  refused("biases_states", [&] { device.update.biases_states[0] = nullptr; });
  refused("bias_rows_dtype", [&] { device.gradients.biases_dtype = DType::kFloat16; });
  refused("rows shares memory with weights",
          [&] { device.gradients.weights = device.tables.weights.shards.front().data; });
  EXPECT_THROW(cuda::update_complete_rows(device.update, device.tables, device.gradients, nullptr, {}), InvalidValue);
  device.gradients.weights_stride = 5;
  EXPECT_THROW(device.run_complete(5), InvalidValue);
}

}  // namespace
}  // namespace fastnce
