// Expected counts Q of classes among the samples: log Q is subtracted from logits.
#pragma once

#include <limits>

#include "math/hd.h"

namespace fastnce::math {

// Whether Q has a finite logarithm. Negative numbers and NaN give NaN, 0 gives infinite logits, and infinity removes a
// class silently.
template <class T>
FASTNCE_HD constexpr bool is_expected_count(T count) {
  constexpr T kLargest = std::numeric_limits<T>::max();
  return count > T{0} && count <= kLargest;
}

}  // namespace fastnce::math
