// Sampled classes that are true classes of an example.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "fastnce/sampler.h"

namespace fastnce::cpu {

// As in fastnce/sampler.h.
std::vector<AccidentalHit> accidental_hits(std::span<const std::int64_t> labels, std::int64_t num_true,
                                           std::span<const std::int64_t> sampled);

}  // namespace fastnce::cpu
