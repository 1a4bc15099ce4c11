// Entry points of candidate sampling: check, then call the backend.
#include "fastnce/sampler.h"

#include <unistd.h>

#include <algorithm>
#include <memory_resource>
#include <random>
#include <tuple>

#include "core/validate.h"
#include "cpu/runtime/workspace.h"
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
  const cpu::DrawnSet set{.tries = tries};
  const std::int64_t offsets[] = {0, std::ssize(ids)};
  cpu::expected_counts(params, {&set, 1}, {ids.data(), offsets}, counts);
}

void validate(const SampleRequest& request) {
  if (request.sources.empty()) throw InvalidValue("sources: expected at least one");
  for (const SamplerParams& source : request.sources) {
    validate(source);
    if (source.distribution.range_max != request.sources[0].distribution.range_max) {
      throw InvalidValue(concat("sources: a range_max of ", source.distribution.range_max, " beside one of ",
                                request.sources[0].distribution.range_max, ": expected the same for all"));
    }
  }
  validate_groups(request.groups, request.batch);
  const std::int64_t range_max = request.sources[0].distribution.range_max;
  const bool listed = request.true_offsets != nullptr;
  if (!listed && std::ssize(request.true_classes) % std::max<std::int64_t>(request.batch, 1) != 0) {
    throw InvalidValue(concat("true_classes: expected as many for each of the B = ", request.batch, " examples, not ",
                              request.true_classes.size(), " in all"));
  }
  if (listed) validate_offsets("true_classes", request.true_offsets, request.batch, std::ssize(request.true_classes));
  require_in_range(listed ? "true_classes.values" : "true_classes", request.true_classes, range_max);
  const ClassLists& exclude = request.exclude;
  if (exclude.offsets == nullptr) return;
  if (request.groups != request.batch) {
    throw InvalidValue(concat("num_groups = ", request.groups, ": expected the number of examples, B = ", request.batch,
                              ", to draw again what exclude lists for each"));
  }
  if (std::ranges::any_of(request.sources, [](const auto& source) { return is_all(source.distribution); })) {
    throw InvalidValue("exclude: expected no lists where all classes are candidates");
  }
  validate_offsets("exclude", exclude.offsets, request.batch, -1);
  require_in_range("exclude.values", {exclude.ids, static_cast<std::size_t>(exclude.offsets[request.batch])},
                   range_max);
}

void sample(const SampleRequest& request, std::int64_t* ids, float* true_counts, float* sampled_counts) {
  validate(request);
  const std::int64_t groups = request.groups, num_sampled = request.num_sampled();
  const auto num_sets = static_cast<std::size_t>(groups);
  std::pmr::vector<cpu::DrawnSet> sets(request.sources.size() * num_sets, cpu::call_memory());
  const auto sets_of = [&](std::size_t source) { return std::span(sets).subspan(source * num_sets, num_sets); };
  std::int64_t drawn = 0;
  for (std::size_t i = 0; i < request.sources.size(); ++i) {
    const SamplerParams& source = request.sources[i];
    cpu::sample_sets(source, groups, request.exclude, ids + drawn, num_sampled, sets_of(i).data());
    drawn += source.num_sampled;
  }
  std::vector<float> of_source;
  // Classes and, for each group, where its own begin.
  const auto count = [&](const ClassLists& lists, float* counts) {
    cpu::expected_counts(request.sources[0], sets_of(0), lists, counts);
    if (request.sources.size() > 1) of_source.resize(static_cast<std::size_t>(lists.offsets[groups]));
    for (std::size_t i = 1; i < request.sources.size(); ++i) {
      cpu::expected_counts(request.sources[i], sets_of(i), lists, of_source.data());
      for (std::size_t k = 0; k < of_source.size(); ++k) counts[k] += of_source[k];
    }
  };
  std::pmr::vector<std::int64_t> begin(num_sets + 1, cpu::call_memory());
  for (std::int64_t g = 0; g <= groups; ++g) {
    const std::int64_t example = request.batch / groups * g;
    begin[g] =
        request.true_offsets != nullptr ? request.true_offsets[example] : std::ssize(request.true_classes) / groups * g;
  }
  count({request.true_classes.data(), begin.data()}, true_counts);
  for (std::int64_t g = 0; g <= groups; ++g) begin[g] = num_sampled * g;
  count({ids, begin.data()}, sampled_counts);
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
