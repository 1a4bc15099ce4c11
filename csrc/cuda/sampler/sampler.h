// Candidate sampling on a CUDA device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastnce/cuda.h"

namespace fastnce::cuda {

// How many draws unique sampling makes on the whole device at first; few calls need more.
std::int64_t planned_draws(const SamplerParams& params);

// As in fastnce/cuda.h. Parameters must be valid (core/cuda.cpp checks them) and the device current.
std::size_t sampler_workspace_bytes(const SamplerParams& params);
void queue_candidates(const SamplerParams& params, std::uint64_t* calls, const std::int64_t* labels,
                      std::int64_t num_labels, const Candidates& candidates, const Workspace& workspace,
                      const Stream& stream);

}  // namespace fastnce::cuda
