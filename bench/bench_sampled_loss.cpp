// One training step's loss, with and without gradients, sampling included, for each named shape, at the precision that
// FASTNCE_PRECISION names.
#include <benchmark/benchmark.h>

#include <random>
#include <span>
#include <string>
#include <vector>

#include "fastnce/config.h"
#include "fastnce/sampled_loss.h"
#include "fastnce/sampler.h"
#include "shapes.h"

namespace fastnce::bench {

namespace {

// Steps go round this many batches, so that none finds its own examples and true rows warm in the caches.
constexpr std::int64_t kBatches = 8;

// A float32 problem with Zipfian labels. Every call of step() draws new candidates.
class Step {
 public:
  explicit Step(const Shape& shape)
      : sampling_{.range_max = shape.num_classes, .num_sampled = shape.num_sampled, .seed = 1, .seed2 = 2},
        weights_(static_cast<std::size_t>(shape.num_classes * shape.dim)),
        biases_(static_cast<std::size_t>(shape.num_classes)),
        inputs_(static_cast<std::size_t>(kBatches * shape.batch * shape.dim)),
        labels_(static_cast<std::size_t>(kBatches * shape.batch * shape.num_true)),
        sampled_(static_cast<std::size_t>(shape.num_sampled)),
        true_count_(static_cast<std::size_t>(shape.batch * shape.num_true)),
        sampled_count_(sampled_.size()),
        loss_(static_cast<std::size_t>(shape.batch)),
        grad_inputs_(static_cast<std::size_t>(shape.batch * shape.dim)) {
    std::minstd_rand random(1);
    const auto uniform = [&] { return static_cast<float>(random()) * 0x1p-31f - 0.5f; };
    for (float& value : weights_) value = 0.1f * uniform();
    for (float& value : inputs_) value = uniform();
    log_uniform_sample({.range_max = shape.num_classes,
                        .num_sampled = static_cast<std::int64_t>(labels_.size()),
                        .unique = false,
                        .seed = 3,
                        .seed2 = 4},
                       labels_.data());
    weight_rows_ = {weights_.data(), shape.num_classes, shape.dim};
    bias_rows_ = {biases_.data(), shape.num_classes, 1};
    params_ = {.precision = default_precision(),
               .batch = shape.batch,
               .dim = shape.dim,
               .num_classes = shape.num_classes,
               .num_true = shape.num_true,
               .num_sampled = shape.num_sampled,
               .weights = {{&weight_rows_, 1}},
               .biases = {{&bias_rows_, 1}},
               .inputs_stride = shape.dim,
               .sampled = sampled_.data(),
               .true_count = true_count_.data(),
               .sampled_count = sampled_count_.data(),
               .loss = loss_.data()};
  }
  Step(const Step&) = delete;

  void step(bool with_grad) {
    const auto batch = static_cast<std::int64_t>(sampling_.call % kBatches);
    const std::span<const std::int64_t> labels(labels_.data() + batch * params_.batch * params_.num_true,
                                               true_count_.size());
    params_.labels = labels.data();
    params_.inputs = inputs_.data() + batch * params_.batch * params_.dim;
    const std::int64_t tries = log_uniform_sample(sampling_, sampled_.data());
    log_uniform_expected_count(sampling_, tries, labels, true_count_.data());
    log_uniform_expected_count(sampling_, tries, sampled_, sampled_count_.data());
    ++sampling_.call;
    if (with_grad) {
      plan_rows(labels, sampled_, plan_);
      grad_weights_.resize(plan_.ids.size() * static_cast<std::size_t>(params_.dim));
      grad_biases_.resize(plan_.ids.size());
      params_.rows = &plan_;
      params_.grad_inputs = grad_inputs_.data();
      params_.grad_weights = grad_weights_.data();
      params_.grad_biases = grad_biases_.data();
      nce_loss(params_);
    } else {
      nce_loss(params_);
    }
    benchmark::DoNotOptimize(loss_.data());
  }

  // Multiply-adds count two; the logistic is not counted.
  double flops(bool with_grad) const {
    return (with_grad ? 6.0 : 2.0) * static_cast<double>(params_.batch * (params_.num_sampled + params_.num_true)) *
           static_cast<double>(params_.dim);
  }
  // What has to be moved at least: table rows and inputs in, gradients out.
  double bytes(bool with_grad) const {
    const double rows = static_cast<double>(params_.batch * (params_.num_true + 1) + params_.num_sampled);
    return (with_grad ? 2.0 : 1.0) * rows * static_cast<double>(params_.dim) * sizeof(float);
  }

 private:
  LogUniformParams sampling_;
  std::vector<float> weights_, biases_, inputs_;
  std::vector<std::int64_t> labels_, sampled_;
  std::vector<float> true_count_, sampled_count_, loss_, grad_inputs_, grad_weights_, grad_biases_;
  RowPlan plan_;
  Shard weight_rows_, bias_rows_;
  SampledLossParams params_;
};

void sampled_loss(benchmark::State& state, const Shape& shape, bool with_grad) {
  Step problem(shape);
  problem.step(with_grad);
  for (auto _ : state) problem.step(with_grad);
  using benchmark::Counter;
  state.counters["FLOP"] = Counter(problem.flops(with_grad), Counter::kIsIterationInvariantRate);
  state.counters["bytes"] = Counter(problem.bytes(with_grad), Counter::kIsIterationInvariantRate);
}

}  // namespace

void register_sampled_loss() {
  for (const bool with_grad : {false, true}) {
    for (const Shape& shape : kShapes) {
      const std::string name = std::string(with_grad ? "loss_and_grad/" : "loss/") + shape.name;
      benchmark::RegisterBenchmark(name.c_str(), sampled_loss, shape, with_grad)
          ->UseRealTime()
          ->Unit(benchmark::kMillisecond);
    }
  }
}

}  // namespace fastnce::bench
