// The checks of a call that read no array: they hold for every backend, wherever the arrays are.
#pragma once

#include "fastnce/sampled_loss.h"

namespace fastnce {

// validate() without the ids and the row plan.
void validate_shapes(const SampledLossParams& params);

}  // namespace fastnce
