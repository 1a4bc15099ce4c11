// Candidate sampling on a CUDA device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastnce/cuda.h"

namespace fastnce::cuda {

// How many draws unique sampling makes on the whole device at first; few calls need more.
std::int64_t planned_draws(const SamplerParams& params);

// As in fastnce/cuda.h. The request must be valid (core/cuda.cpp checks it) and the device current.
std::size_t sampler_workspace_bytes(const SampleRequest& request);
void queue_candidates(const SampleRequest& request, std::uint64_t* calls, const Candidates& candidates,
                      const Workspace& workspace, const Stream& stream);

}  // namespace fastnce::cuda
