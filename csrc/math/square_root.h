// The square root of a number, correctly rounded, for the host and for CUDA devices.
#pragma once

#include "math/hd.h"

namespace fastnce::math {

FASTNCE_HD float square_root(float x) {
#if defined(__CUDA_ARCH__)
  return __fsqrt_rn(x);
#else
  return __builtin_sqrtf(x);
#endif
}

FASTNCE_HD double square_root(double x) {
#if defined(__CUDA_ARCH__)
  return __dsqrt_rn(x);
#else
  return __builtin_sqrt(x);
#endif
}

}  // namespace fastnce::math
