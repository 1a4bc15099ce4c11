// Candidate sampling: the classes that represent all others in a sampled loss, and their expected counts.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "fastnce/distribution.h"

namespace fastnce {

// One call of a candidate sampler: a pure function of these fields, whatever the instruction set or the number of
// threads. (seed, seed2) are TensorFlow's op attributes and give TensorFlow's ids; `call` counts the calls of one
// sampler from 0, and each continues the stream of the one before.
struct SamplerParams {
  Distribution distribution;
  std::int64_t num_sampled = 0;  // S
  bool unique = true;            // keep first occurrences until S distinct classes are found
  std::uint64_t seed = 0;
  std::uint64_t seed2 = 0;
  std::uint64_t call = 0;
};

// Throws InvalidValue when S or V is out of range, when the distribution lacks its tables, or when unique and the
// distribution cannot draw S distinct classes.
void validate(const SamplerParams& params);

// Writes S sampled classes to `ids` and returns `tries`, the number of draws it took (S when not unique).
// Throws as validate() does.
std::int64_t sample_candidates(const SamplerParams& params, std::int64_t* ids);

// The expected number of occurrences of each of `ids` among the samples of a call that took `tries` draws: S p when
// tries == S, else 1 - (1 - p)^tries, p being the probability of the class in one draw. Within 2 ulp of TensorFlow's.
// `tries` is what sample_candidates() returned. Throws as validate() does, and for an id outside [0, V).
void expected_counts(const SamplerParams& params, std::int64_t tries, std::span<const std::int64_t> ids, float* counts);

// Draws from each of `sources` and writes their classes one after the other to `ids` [S], S being the sum of
// num_sampled. A class is expected as often as all sources together expect it: the counts of `labels`, and of the
// classes drawn, are sums over the sources. Throws InvalidValue as validate() does, unless all sources have the same
// range_max, and for a label outside [0, V).
void sample_mixture(std::span<const SamplerParams> sources, std::span<const std::int64_t> labels, std::int64_t* ids,
                    float* true_counts, float* sampled_counts);

// A seed pair from the operating system's entropy.
struct SeedPair {
  std::uint64_t seed;
  std::uint64_t seed2;
};
SeedPair fresh_seed();

// A sampled class that is one of the example's true classes.
struct AccidentalHit {
  std::int64_t example;   // row of the labels
  std::int64_t position;  // index into the sampled classes
};

// All accidental hits, by example, then true column, then position; every duplicate of a sampled class counts.
// `labels` is [B, T], row-major; `num_true` is T. Throws InvalidValue where T does not divide the number of labels.
std::vector<AccidentalHit> accidental_hits(std::span<const std::int64_t> labels, std::int64_t num_true,
                                           std::span<const std::int64_t> sampled);

}  // namespace fastnce
