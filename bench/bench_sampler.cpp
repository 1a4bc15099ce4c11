// Unique log-uniform sampling with expected counts, for each named shape.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "fastnce/sampler.h"
#include "shapes.h"

namespace fastnce::bench {

namespace {

void sampler(benchmark::State& state, const Shape& shape) {
  LogUniformParams params{.range_max = shape.num_classes, .num_sampled = shape.num_sampled, .seed = 1, .seed2 = 2};
  std::vector<std::int64_t> ids(static_cast<std::size_t>(shape.num_sampled));
  std::vector<float> counts(ids.size());
  std::int64_t tries = 0;
  for (auto _ : state) {
    tries = log_uniform_sample(params, ids.data());
    log_uniform_expected_count(params, tries, ids, counts.data());
    benchmark::DoNotOptimize(counts.data());
    ++params.call;
  }
  state.counters["samples"] =
      benchmark::Counter(static_cast<double>(shape.num_sampled), benchmark::Counter::kIsIterationInvariantRate);
  state.counters["tries"] = static_cast<double>(tries);
}

}  // namespace

void register_sampler() {
  for (const Shape& shape : kShapes) {
    benchmark::RegisterBenchmark(("sampler/" + std::string(shape.name)).c_str(), sampler, shape)
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
  }
}

}  // namespace fastnce::bench
