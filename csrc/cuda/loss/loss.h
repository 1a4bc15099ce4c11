// The sampled losses, and those over all classes, on a CUDA device.
#pragma once

#include "fastnce/cuda.h"

namespace fastnce::cuda {

// As in fastnce/cuda.h. Requests must be valid (core/cuda.cpp checks them) and the device current. `all_classes`: the
// negatives are as many as there are classes, without ids, and hits are removed.
LossPlan plan_loss(const LossRequest& request, int device, bool all_classes = false);
void queue_loss(const LossPlan& plan, const LossOutputs& outputs, const Workspace& workspace, const Stream& stream);

}  // namespace fastnce::cuda
