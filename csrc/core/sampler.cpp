// Entry points of candidate sampling: check, then call the backend.
#include "fastnce/sampler.h"

#include <unistd.h>

#include <random>

#include "cpu/accidental_hits.h"
#include "cpu/sampler.h"
#include "fastnce/error.h"

namespace fastnce {

void validate(const LogUniformParams& params) {
  constexpr std::int64_t kMostSamples = 0x7FFFFFFF;  // TensorFlow's limit: an int32 attribute
  if (params.range_max < 1) throw InvalidValue(concat("range_max = ", params.range_max, ": expected at least 1"));
  if (params.num_sampled < 1 || params.num_sampled > kMostSamples) {
    throw InvalidValue(concat("num_sampled = ", params.num_sampled, ": expected 1 to ", kMostSamples));
  }
  if (params.unique && params.num_sampled > params.range_max) {
    throw InvalidValue(concat("num_sampled = ", params.num_sampled, " is larger than the number of classes, ",
                              params.range_max, " (num_classes or range_max): expected at most ", params.range_max,
                              ", because samples are unique"));
  }
}

std::int64_t log_uniform_sample(const LogUniformParams& params, std::int64_t* ids) {
  validate(params);
  return cpu::log_uniform_sample(params, ids);
}

void log_uniform_expected_count(const LogUniformParams& params, std::int64_t tries, std::span<const std::int64_t> ids,
                                float* counts) {
  validate(params);
  cpu::log_uniform_expected_count(params, tries, ids, counts);
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
  std::vector<AccidentalHit> hits;
  cpu::visit_accidental_hits(labels, sampled, [&](std::int64_t label, std::int64_t position) {
    hits.push_back({label / num_true, position});
  });
  return hits;
}

}  // namespace fastnce
