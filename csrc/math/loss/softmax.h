// The softmax loss of an example: log-sum-exp cross entropy over its true classes and its samples.
//
// Logits enter as exponentials e = exp(logit - m) relative to the largest of them, so that none overflows. With
// total = sum e, the loss of a true class is q log(total / e), and dloss/dlogit = (sum q) e / total - q.
#pragma once

#include <cmath>
#include <limits>

#include "math/hd.h"
#include "math/loss/logistic.h"

namespace fastnce::math {

// What maxima start from. Finite: -inf - -inf would be NaN where all logits are -inf.
template <class T>
inline constexpr T kLeastLogit = -std::numeric_limits<T>::max();

// exp(logit - maximum), at most 1.
template <class T>
FASTNCE_HD T exp_below(T logit, T maximum) {
  return exp_nonpositive<T, T, typename LogisticConstants<T>::Bits>(logit - maximum);
}

// exp(others - maximum), of the log_sum_exp of other parts of a loss, which the maximum is not below. Where that is
// theirs, the difference is what rounding to T leaves: at most a half, but for numbers so large that they have no
// fraction.
template <class T>
FASTNCE_HD double exp_of_others(double others, T maximum) {
  double above = others - static_cast<double>(maximum);
  if (maximum == static_cast<T>(others)) above = above < -0.5 ? -0.5 : above > 0.5 ? 0.5 : above;
  return std::exp(above);
}

// Sums of an example's exponentials, in float64.
struct SoftmaxSums {
  double of_true, of_samples;

  FASTNCE_HD double total() const { return of_true + of_samples; }

  // dloss/du of a true class with exponential `own` and this share of a target, over what one share is of it and over
  // total, where the true classes have `shares` together: shares own - share total. The terms of the others are added
  // up apart, not subtracted from the total: nothing is lost where one class has nearly all probability.
  FASTNCE_HD double true_slope(double own, double share, double shares) const {
    return (shares - share) * own - share * (of_samples + (of_true - own));
  }
};

}  // namespace fastnce::math
