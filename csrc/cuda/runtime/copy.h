// Copies of arrays of any layout within device memory, and arrays of one number.
#pragma once

#include "fastnce/cuda.h"

namespace fastnce::cuda {

// copy_rows() and fill() of fastnce/cuda.h, for the current device.
void queue_copy_rows(const RowArray& rows, void* to, const Stream& stream);
void queue_fill(float value, std::int64_t count, float* to, const Stream& stream);

}  // namespace fastnce::cuda
