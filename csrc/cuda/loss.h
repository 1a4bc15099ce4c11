// The sampled losses on a CUDA device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastnce/cuda.h"

namespace fastnce::cuda {

// Of one table: its addresses travel as a kernel argument.
inline constexpr std::int64_t kMostShards = 32;
// B T + S, and V: a class and the number of an entry share a word of 64 bits (cuda/row_order.h).
inline constexpr std::int64_t kMostEntries = std::int64_t{1} << 28;
inline constexpr std::int64_t kMostClasses = (std::int64_t{1} << 36) - 1;

// As in fastnce/cuda.h. Requests must be valid (core/cuda.cpp checks them) and the device current.
LossPlan plan_loss(const LossRequest& request, int device);
void queue_loss(const LossPlan& plan, const LossOutputs& outputs, const Workspace& workspace, const Stream& stream);

}  // namespace fastnce::cuda
