// What a step spends on choosing classes. For each named shape: unique log-uniform sampling with the expected counts of
// labels and samples, and the search for accidental hits. For 4,096 examples with 64 samples each of 2,000,000 classes:
// sampling, with and without a list of 100 excluded classes for each. bench_sampled_loss.cpp times the whole step.
#include <benchmark/benchmark.h>

#include <string>
#include <utility>
#include <vector>

#include "fastnce/error.h"
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

void groups(benchmark::State& state, const Distribution& distribution, bool unique, bool excludes) {
  constexpr std::int64_t kBatch = 4096, kListed = 100;
  SamplerParams sampler{.distribution = distribution, .num_sampled = 64, .unique = unique, .seed = 1, .seed2 = 2};
  std::vector<std::int64_t> labels(kBatch), excluded(kBatch * kListed), offsets{0};
  const auto zipfian = [&](std::vector<std::int64_t>& classes, std::uint64_t seed) {
    sample_candidates({.distribution = {.range_max = distribution.range_max},
                       .num_sampled = std::ssize(classes),
                       .unique = false,
                       .seed = seed},
                      classes.data());
  };
  zipfian(labels, 3);
  zipfian(excluded, 4);
  for (std::int64_t b = 1; b <= kBatch; ++b) offsets.push_back(b * kListed);
  SampleRequest request{.sources = {&sampler, 1}, .batch = kBatch, .groups = kBatch, .true_classes = labels};
  if (excludes) request.exclude = {excluded.data(), offsets.data()};
  const std::int64_t drawn = kBatch * sampler.num_sampled;
  std::vector<std::int64_t> ids(static_cast<std::size_t>(drawn));
  std::vector<float> true_count(kBatch), sampled_count(ids.size());
  for (auto _ : state) {
    sample(request, ids.data(), true_count.data(), sampled_count.data());
    ++sampler.call;
  }
  state.counters["samples"] =
      benchmark::Counter(static_cast<double>(drawn), benchmark::Counter::kIsIterationInvariantRate);
}

void register_groups() {
  constexpr std::int64_t kClasses = 2'000'000;
  static const UnigramTable table = [] {
    std::vector<float> weights;
    for (std::int64_t k = 0; k < kClasses; ++k) weights.push_back(1.0f / static_cast<float>(k + 1));
    return UnigramTable(weights);
  }();
  const std::pair<const char*, Distribution> distributions[] = {
      {"log_uniform", distribution_named("log_uniform", kClasses)},
      {"uniform", distribution_named("uniform", kClasses)},
      {"unigram", table.distribution()}};
  for (const auto& [name, distribution] : distributions) {
    for (const bool unique : {false, true}) {
      for (const bool excludes : {false, true}) {
        const std::string title = concat("groups/", name, unique ? "/unique" : "", excludes ? "/exclude" : "");
        benchmark::RegisterBenchmark(title.c_str(), groups, distribution, unique, excludes)
            ->UseRealTime()
            ->Unit(benchmark::kMicrosecond);
      }
    }
  }
}

}  // namespace

void register_sampler() {
  register_groups();
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
