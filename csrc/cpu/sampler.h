// The CPU backend of candidate sampling.
#pragma once

#include <cstdint>
#include <span>

#include "fastnce/sampler.h"

namespace fastnce::cpu {

// As in fastnce/sampler.h; parameters must be valid (core/sampler.cpp checks them).
std::int64_t log_uniform_sample(const LogUniformParams& params, std::int64_t* ids);
void log_uniform_expected_count(const LogUniformParams& params, std::int64_t tries, std::span<const std::int64_t> ids,
                                float* counts);

}  // namespace fastnce::cpu
