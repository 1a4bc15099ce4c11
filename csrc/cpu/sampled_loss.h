// The CPU backend of the sampled loss.
#pragma once

#include "fastnce/sampled_loss.h"

namespace fastnce::cpu {

// Parameters must be valid (core/validate.h).
void nce_loss(const SampledLossParams& params);

}  // namespace fastnce::cpu
