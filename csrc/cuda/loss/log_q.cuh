// log Q as a request gives it: by expected counts, or as it is.
#pragma once

#include <cstdint>
#include <limits>

#include "cuda/runtime/device.cuh"
#include "math/expected_count.h"

namespace fastnce::cuda {

struct GivenQ {
  const float* values = nullptr;  // null: Q = 1
  bool is_log = false;            // else expected counts

  // A value as it is given, without a wait for it, and its log Q: NaN unless it is usable.
  FASTNCE_DEVICE float load(std::int64_t i) const { return values != nullptr ? values[i] : is_log ? 0.0f : 1.0f; }
  FASTNCE_DEVICE float log_of(float value) const {
    const bool is_finite = value >= -std::numeric_limits<float>::max() && value <= std::numeric_limits<float>::max();
    if (is_log ? is_finite : math::is_expected_count(value)) return is_log ? value : logf(value);
    return __builtin_nanf("");
  }
};

}  // namespace fastnce::cuda
