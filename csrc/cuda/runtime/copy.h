// Copies of arrays of any layout within device memory.
#pragma once

#include "fastnce/cuda.h"

namespace fastnce::cuda {

// copy_rows() of fastnce/cuda.h, for the current device.
void queue_copy_rows(const RowArray& rows, void* to, const Stream& stream);

}  // namespace fastnce::cuda
