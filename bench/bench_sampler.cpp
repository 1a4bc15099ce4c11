// What a step spends on choosing classes, for each named shape: unique log-uniform sampling with the expected counts of
// labels and samples, and the search for accidental hits. bench_sampled_loss.cpp times the whole step.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "fastnce/sampler.h"
#include "shapes.h"

namespace fastnce::bench {

namespace {

// Zipfian labels, and one call's samples.
struct Classes {
  explicit Classes(const Shape& shape)
      : sampling{.distribution = {.range_max = shape.num_classes},
                 .num_sampled = shape.num_sampled,
                 .seed = 1,
                 .seed2 = 2},
        labels(static_cast<std::size_t>(shape.batch * shape.num_true)),
        sampled(static_cast<std::size_t>(shape.num_sampled)) {
    sample_candidates({.distribution = {.range_max = shape.num_classes},
                       .num_sampled = shape.batch * shape.num_true,
                       .unique = false,
                       .seed = 3,
                       .seed2 = 4},
                      labels.data());
  }
  std::int64_t sample() {
    const std::int64_t tries = sample_candidates(sampling, sampled.data());
    ++sampling.call;
    return tries;
  }

  SamplerParams sampling;
  std::vector<std::int64_t> labels, sampled;
};

void sampling(benchmark::State& state, const Shape& shape) {
  Classes classes(shape);
  std::vector<float> true_count(classes.labels.size());
  std::vector<float> sampled_count(classes.sampled.size());
  std::int64_t tries = 0;
  for (auto _ : state) {
    tries = classes.sample();
    expected_counts(classes.sampling, tries, classes.labels, true_count.data());
    expected_counts(classes.sampling, tries, classes.sampled, sampled_count.data());
    benchmark::DoNotOptimize(sampled_count.data());
  }
  state.counters["samples"] =
      benchmark::Counter(static_cast<double>(shape.num_sampled), benchmark::Counter::kIsIterationInvariantRate);
  state.counters["tries"] = static_cast<double>(tries);
}

void hits(benchmark::State& state, const Shape& shape) {
  Classes classes(shape);
  classes.sample();
  for (auto _ : state) {
    benchmark::DoNotOptimize(accidental_hits(classes.labels, shape.num_true, classes.sampled).data());
  }
}

}  // namespace

void register_sampler() {
  const auto add = [](const char* name, const Shape& shape, auto function) {
    benchmark::RegisterBenchmark((name + std::string("/") + shape.name).c_str(), function, shape)
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
  };
  for (const Shape& shape : kShapes) {
    add("sampling", shape, sampling);
    add("hits", shape, hits);
  }
}

}  // namespace fastnce::bench
