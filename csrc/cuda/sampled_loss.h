// The sampled loss on a CUDA device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastnce/cuda.h"

namespace fastnce::cuda {

// Of one table: its addresses travel as a kernel argument.
inline constexpr std::int64_t kMostShards = 32;

// As in fastnce/cuda.h. Parameters must be valid (core/cuda.cpp checks them) and the device current.
std::size_t loss_workspace_bytes(const SampledLossParams& params, int device);
void queue_nce_loss(const SampledLossParams& params, const Workspace& workspace, const Stream& stream);

}  // namespace fastnce::cuda
