// The CPU backend of candidate sampling.
#pragma once

#include <cstdint>
#include <span>

#include "fastnce/sampler.h"

namespace fastnce::cpu {

// As in fastnce/sampler.h; parameters must be valid (core/sampler.cpp checks them).
std::int64_t sample_candidates(const SamplerParams& params, std::int64_t* ids);
void expected_counts(const SamplerParams& params, std::int64_t tries, std::span<const std::int64_t> ids, float* counts);

// Walker's alias table of `weights`, as TensorFlow builds it; returns the number of classes that it can draw.
// `alias_table` has room for 2 numbers per class.
std::int64_t build_alias_table(std::span<const float> weights, WeightSums sums, std::uint32_t* alias_table);

}  // namespace fastnce::cpu
