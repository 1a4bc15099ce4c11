// The sampled losses on a CUDA device.
#pragma once

#include "fastnce/cuda.h"

namespace fastnce::cuda {

// As in fastnce/cuda.h. Requests must be valid (core/cuda.cpp checks them) and the device current.
LossPlan plan_loss(const LossRequest& request, int device);
void queue_loss(const LossPlan& plan, const LossOutputs& outputs, const Workspace& workspace, const Stream& stream);

}  // namespace fastnce::cuda
