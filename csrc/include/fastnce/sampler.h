// Candidate sampling: the classes that represent all others in a sampled loss, and their expected counts.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "fastnce/distribution.h"
#include "fastnce/types.h"

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

// One call for a batch: S classes, or S for each of G groups of examples, and how often those and the true classes are
// expected.
struct SampleRequest {
  // What is drawn from, one after the other; S is the sum of num_sampled. A class is expected as often as all sources
  // together expect it.
  std::span<const SamplerParams> sources;
  std::int64_t batch = 0;  // B
  // G, a divisor of B. Group g serves the examples [g B / G, (g + 1) B / G) and draws what call number `call` G + g of
  // one group draws. Its counts follow from its own number of tries.
  std::int64_t groups = 1;
  std::span<const std::int64_t> true_classes;  // [B, T], or [n] beside offsets
  const std::int64_t* true_offsets = nullptr;  // [B + 1], as in ClassLists; null: as many for each example
  // Classes that are drawn again for an example, for which G must be B. They are skipped in the stream and are no
  // tries; a class of probability p counts as one of min(1, p / (1 - the sum of those of the excluded classes)).
  ClassLists exclude = {};

  std::int64_t num_sampled() const {
    std::int64_t total = 0;
    for (const SamplerParams& source : sources) total += source.num_sampled;
    return total;
  }
};

// Throws InvalidValue as validate() above does, where G is not at least 1 and a divisor of B, for offsets that are
// none, for classes outside [0, V), and unless all sources have the same range_max.
void validate(const SampleRequest& request);

// Writes the sampled classes [G, S], and the counts of the true classes, in their order, and of the sampled ones [G,
// S]. Throws as validate() does, and where `exclude` leaves an example too few classes.
void sample(const SampleRequest& request, std::int64_t* ids, float* true_counts, float* sampled_counts);

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
