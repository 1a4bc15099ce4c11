// Entry points of candidate sampling: check, then call the backend.
#include "fastnce/sampler.h"

#include <unistd.h>

#include <algorithm>
#include <random>
#include <tuple>

#include "cpu/sampler/accidental_hits.h"
#include "cpu/sampler/sampler.h"
#include "fastnce/error.h"
#include "math/distribution/registry.h"

namespace fastnce {

namespace {

// How many distinct classes the distribution can draw, so that unique sampling ends.
void require_distinct(const SamplerParams& params) {
  const Distribution& distribution = params.distribution;
  const std::int64_t range_max = distribution.range_max;
  if (params.num_sampled > range_max) {
    throw InvalidValue(concat("num_sampled = ", params.num_sampled, " is larger than the number of classes, ",
                              range_max, " (num_classes or range_max): expected at most ", range_max,
                              ", because samples are unique"));
  }
  const std::int64_t reachable = distribution.unigram.reachable;
  if (distribution.kind == math::kind_of<math::Unigram>() && params.num_sampled > reachable) {
    throw InvalidValue(concat("num_sampled = ", params.num_sampled,
                              " is larger than the number of classes that can be ", "drawn, ", reachable, " of ",
                              range_max, " (those of weight above 0): expected at most ", reachable,
                              ", because samples are unique"));
  }
}

// That `kind` is one, and that the tables which it draws from are there.
void require_tables(const Distribution& distribution) {
  constexpr auto kKinds = static_cast<int>(std::tuple_size_v<math::Distributions>);
  const auto kind = static_cast<int>(distribution.kind);
  if (kind < 0 || kind >= kKinds) {
    throw InvalidValue(concat("distribution.kind = ", kind, ": expected 0 to ", kKinds - 1));
  }
  const UnigramView& unigram = distribution.unigram;
  if (distribution.kind == math::kind_of<math::Unigram>() &&
      (unigram.weights == nullptr || unigram.alias_table == nullptr)) {
    throw InvalidValue("distribution.unigram: expected the tables of a UnigramTable, not null");
  }
  const LearnedView& learned = distribution.learned;
  if (distribution.kind == math::kind_of<math::LearnedUnigram>() && learned.weights != nullptr &&
      learned.tree == nullptr) {
    throw InvalidValue("distribution.learned.tree: expected that of LearnedWeights, not null");
  }
}

void require_in_range(const char* name, std::span<const std::int64_t> ids, std::int64_t range_max) {
  const auto bad = std::ranges::find_if(ids, [range_max](std::int64_t id) {
    return static_cast<std::uint64_t>(id) >= static_cast<std::uint64_t>(range_max);
  });
  if (bad == ids.end()) return;
  throw InvalidValue(
      concat(name, "[", bad - ids.begin(), "] = ", *bad, " is outside [0, range_max = ", range_max, ")"));
}

}  // namespace

void validate(const SamplerParams& params) {
  constexpr std::int64_t kMostSamples = 0x7FFFFFFF;  // TensorFlow's limit: an int32 attribute
  const Distribution& distribution = params.distribution;
  require_tables(distribution);
  if (distribution.range_max < 1 && !is_all(distribution)) {
    throw InvalidValue(concat("range_max = ", distribution.range_max, ": expected at least 1"));
  }
  const bool is_learned = distribution.kind == math::kind_of<math::LearnedUnigram>();
  const bool is_tabled = is_learned || distribution.kind == math::kind_of<math::Unigram>();
  if (is_tabled && distribution.range_max > kMostTabledClasses) {
    throw InvalidValue(concat("range_max = ", distribution.range_max, ": expected at most ", kMostTabledClasses,
                              " for a ", is_learned ? "learned " : "", "unigram distribution"));
  }
  if (params.num_sampled < 1 || params.num_sampled > kMostSamples) {
    throw InvalidValue(concat("num_sampled = ", params.num_sampled, ": expected 1 to ", kMostSamples));
  }
  if (params.unique || is_all(distribution)) require_distinct(params);
}

std::int64_t sample_candidates(const SamplerParams& params, std::int64_t* ids) {
  validate(params);
  return cpu::sample_candidates(params, ids);
}

void expected_counts(const SamplerParams& params, std::int64_t tries, std::span<const std::int64_t> ids,
                     float* counts) {
  validate(params);
  require_in_range("ids", ids, params.distribution.range_max);
  cpu::expected_counts(params, tries, ids, counts);
}

void sample_mixture(std::span<const SamplerParams> sources, std::span<const std::int64_t> labels, std::int64_t* ids,
                    float* true_counts, float* sampled_counts) {
  std::vector<std::int64_t> tries;
  std::int64_t drawn = 0;
  for (const SamplerParams& source : sources) {
    validate(source);
    if (source.distribution.range_max != sources[0].distribution.range_max) {
      throw InvalidValue(concat("sources: a range_max of ", source.distribution.range_max, " beside one of ",
                                sources[0].distribution.range_max, ": expected the same for all"));
    }
    require_in_range("labels", labels, source.distribution.range_max);
  }
  for (const SamplerParams& source : sources) {
    tries.push_back(cpu::sample_candidates(source, ids + drawn));
    drawn += source.num_sampled;
  }
  std::vector<float> of_source;
  const auto count = [&](std::span<const std::int64_t> classes, float* counts) {
    std::fill_n(counts, classes.size(), 0.0f);
    of_source.resize(classes.size());
    for (std::size_t i = 0; i < sources.size(); ++i) {
      cpu::expected_counts(sources[i], tries[i], classes, of_source.data());
      for (std::size_t k = 0; k < classes.size(); ++k) counts[k] += of_source[k];
    }
  };
  count(labels, true_counts);
  count({ids, static_cast<std::size_t>(drawn)}, sampled_counts);
}

SeedPair fresh_seed() {
  SeedPair pair{};
  if (getentropy(&pair, sizeof pair) == 0) return pair;
  std::random_device device;  // 32 bits a call
  const auto word = [&] { return (static_cast<std::uint64_t>(device()) << 32) | device(); };
  return {word(), word()};
}

std::vector<AccidentalHit> accidental_hits(std::span<const std::int64_t> labels, std::int64_t num_true,
                                           std::span<const std::int64_t> sampled) {
  const std::int64_t num_labels = std::ssize(labels);
  if (num_true < 0 || (num_true == 0 ? num_labels != 0 : num_labels % num_true != 0)) {
    throw InvalidValue(concat("num_true = ", num_true, ": expected a divisor of the ", num_labels, " labels"));
  }
  cpu::Interruption interruption;
  const cpu::SamplePositions samples(sampled, interruption);
  std::vector<std::int64_t> groups;
  std::vector<AccidentalHit> hits;
  hits.reserve(static_cast<std::size_t>(samples.groups_of(labels, groups, interruption)));
  constexpr std::int64_t kStepsAtOnce = 1 << 20;
  std::int64_t steps = 0;
  for (std::int64_t i = 0; i < num_labels; ++i) {
    if (++steps >= kStepsAtOnce) {
      steps = 0;
      interruption.check();
    }
    const std::int64_t group = groups[static_cast<std::size_t>(i)];
    if (group == cpu::SamplePositions::kNoGroup) continue;
    const std::span<const std::int64_t> positions = samples.of_group(group);
    for (const std::int64_t position : positions) hits.push_back({i / num_true, position});
    steps += std::ssize(positions);
  }
  return hits;
}

}  // namespace fastnce
