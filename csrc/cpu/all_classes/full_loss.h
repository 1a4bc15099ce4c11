// The CPU backend of the losses over all classes.
#pragma once

#include "fastnce/evaluate.h"

namespace fastnce::cpu {

// The request must be valid (core/validate.h).
void full_loss(const LossRequest& request, const Progress& progress, const LossOutputs& outputs);

}  // namespace fastnce::cpu
