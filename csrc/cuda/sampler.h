// Candidate sampling on a CUDA device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastnce/cuda.h"

namespace fastnce::cuda {

// As in fastnce/cuda.h. Parameters must be valid (core/cuda.cpp checks them) and the device current.
std::size_t sampler_workspace_bytes(const LogUniformParams& params);
void sample_log_uniform(const LogUniformParams& params, std::uint64_t* calls, const std::int64_t* labels,
                        std::int64_t num_labels, const Candidates& candidates, const Workspace& workspace,
                        const Stream& stream);

}  // namespace fastnce::cuda
