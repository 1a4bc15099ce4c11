// Ids in device memory: copied to int64, and what kernels found wrong with them.
#pragma once

#include <cstdint>

#include "fastnce/cuda.h"

namespace fastnce::cuda {

// copy_ids() and check() of fastnce/cuda.h, for the current device.
void queue_copy_ids(const IdArray& ids, std::int64_t* to, const Stream& stream);
void check_ids();

}  // namespace fastnce::cuda
