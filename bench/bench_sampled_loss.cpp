// One training step's loss, with and without gradients, sampling included, for each named shape, at the precision that
// FASTNCE_PRECISION names.
#include <benchmark/benchmark.h>

#include <random>
#include <string>
#include <vector>

#include "fastnce/config.h"
#include "fastnce/loss.h"
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
      : weights_(static_cast<std::size_t>(shape.num_classes * shape.dim)),
        biases_(static_cast<std::size_t>(shape.num_classes)),
        inputs_(static_cast<std::size_t>(kBatches * shape.batch * shape.dim)),
        labels_(static_cast<std::size_t>(kBatches * shape.batch * shape.num_true)),
        loss_(static_cast<std::size_t>(shape.batch)),
        grad_inputs_(static_cast<std::size_t>(shape.batch * shape.dim)) {
    std::minstd_rand random(1);
    const auto uniform = [&] { return static_cast<float>(random()) * 0x1p-31f - 0.5f; };
    for (float& value : weights_) value = 0.1f * uniform();
    for (float& value : inputs_) value = uniform();
    sample_candidates({.distribution = {.range_max = shape.num_classes},
                       .num_sampled = static_cast<std::int64_t>(labels_.size()),
                       .unique = false,
                       .seed = 3,
                       .seed2 = 4},
                      labels_.data());
    weight_rows_ = {weights_.data(), shape.num_classes, shape.dim};
    bias_rows_ = {biases_.data(), shape.num_classes, 1};
    request_.precision = default_precision();
    request_.batch = shape.batch;
    request_.dim = shape.dim;
    request_.num_classes = shape.num_classes;
    request_.targets.per_example = shape.num_true;
    request_.negatives.count = shape.num_sampled;
    request_.negatives.sampler = {
        .distribution = {.range_max = shape.num_classes}, .num_sampled = shape.num_sampled, .seed = 1, .seed2 = 2};
    request_.weights.shards = {&weight_rows_, 1};
    request_.biases.shards = {&bias_rows_, 1};
    request_.inputs_stride = shape.dim;
  }
  Step(const Step&) = delete;

  void step(bool with_grad) {
    const auto batch = static_cast<std::int64_t>(request_.negatives.sampler->call % kBatches);
    request_.targets.ids = labels_.data() + batch * request_.batch * request_.targets.per_example;
    request_.inputs = inputs_.data() + batch * request_.batch * request_.dim;
    request_.wanted = {.loss = true, .grad_inputs = with_grad, .grad_weights = with_grad, .grad_biases = with_grad};
    plan(request_, plan_);
    grad_weights_.resize(plan_.row_ids().size() * static_cast<std::size_t>(request_.dim));
    grad_biases_.resize(plan_.row_ids().size());
    run(plan_, {.loss = loss_.data(),
                .grad_inputs = grad_inputs_.data(),
                .grad_weights = grad_weights_.data(),
                .grad_biases = grad_biases_.data()});
    ++request_.negatives.sampler->call;
    benchmark::DoNotOptimize(loss_.data());
  }

  // Multiply-adds count two; the logistic is not counted.
  double flops(bool with_grad) const {
    return (with_grad ? 6.0 : 2.0) *
           static_cast<double>(request_.batch * (request_.negatives.count + request_.targets.per_example)) *
           static_cast<double>(request_.dim);
  }
  // What has to be moved at least: table rows and inputs in, gradients out.
  double bytes(bool with_grad) const {
    const double rows =
        static_cast<double>(request_.batch * (request_.targets.per_example + 1) + request_.negatives.count);
    return (with_grad ? 2.0 : 1.0) * rows * static_cast<double>(request_.dim) * sizeof(float);
  }

 private:
  std::vector<float> weights_, biases_, inputs_;
  std::vector<std::int64_t> labels_;
  std::vector<float> loss_, grad_inputs_, grad_weights_, grad_biases_;
  LossPlan plan_;
  Shard weight_rows_, bias_rows_;
  LossRequest request_;
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
