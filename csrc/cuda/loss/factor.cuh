// Factors per example: upstream gradients and weights of the loss.
#pragma once

#include <cstdint>

#include "cuda/runtime/device.cuh"

namespace fastnce::cuda {

// A number for each example, or one for all.
struct Factor {
  const float* values;  // null: `all`
  float all;

  Factor from(std::int64_t example) const { return {values != nullptr ? values + example : nullptr, all}; }
  FASTNCE_DEVICE float of(std::int64_t example) const { return values != nullptr ? values[example] : all; }
};

}  // namespace fastnce::cuda
