// Expected counts Q of classes among the samples: log Q is subtracted from logits.
#pragma once

#include <limits>

#include "math/hd.h"

namespace fastnce::math {

// Whether Q has a finite logarithm. 0, infinity, negative numbers and NaN would spoil what they touch or, as infinity
// does, remove it without a word.
template <class T>
FASTNCE_HD constexpr bool is_expected_count(T count) {
  constexpr T kLargest = std::numeric_limits<T>::max();
  return count > T{0} && count <= kLargest;
}

}  // namespace fastnce::math
