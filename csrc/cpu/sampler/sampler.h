// The CPU backend of candidate sampling.
#pragma once

#include <cstdint>
#include <span>

#include "fastnce/sampler.h"

namespace fastnce::cpu {

// What expected counts follow from, beside the distribution.
struct DrawnSet {
  std::int64_t tries = 0;  // draws that the set took, without those of excluded classes
  double left = 1.0;       // 1 - the probabilities of excluded classes; above 0
};

// As in fastnce/sampler.h; parameters must be valid (core/sampler.cpp checks them).
std::int64_t sample_candidates(const SamplerParams& params, std::int64_t* ids);

// Writes `groups` sets: set g, that of call number params.call * groups + g without the classes of list g, to
// ids + g * stride. Throws InvalidValue for a list that leaves too few classes.
void sample_sets(const SamplerParams& params, std::int64_t groups, const ClassLists& exclude, std::int64_t* ids,
                 std::int64_t stride, DrawnSet* sets);

// List i is counted by set i. Offsets are given; those of one list are {0, n}.
void expected_counts(const SamplerParams& params, std::span<const DrawnSet> sets, const ClassLists& lists,
                     float* counts);

// Of each class in one draw, not rounded to float32. On this thread.
void exact_probabilities(const Distribution& distribution, std::span<const std::int64_t> ids, double* p);

// Walker's alias table of `weights`, as TensorFlow builds it; returns the number of classes that it can draw.
// `alias_table` has room for 2 numbers per class.
std::int64_t build_alias_table(std::span<const float> weights, WeightSums sums, std::uint32_t* alias_table);

}  // namespace fastnce::cpu
