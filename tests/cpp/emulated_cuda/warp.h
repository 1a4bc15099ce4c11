// Operations of a whole warp, as csrc/cuda/runtime/device.cuh explains them.
#pragma once

#include <cstdint>

#include "block.h"

namespace fastnce::cuda::emulated {

// Replaces a lane's `bytes` (at most 8) at `value` by what lane `from` has at its own.
void exchange(void* value, int bytes, int from, const Site& site);

void load_matrices(std::uint32_t (&matrix)[4], std::uint32_t row, bool transposed, const Site& site);

enum class Format { kBFloat16, kFloat16 };
void multiply_add(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1, Format format,
                  const Site& site);

}  // namespace fastnce::cuda::emulated
