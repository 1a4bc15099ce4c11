// Lazy Adam (torch.optim.SparseAdam): moments move only in the steps that touch their row; the bias correction is that
// of the table's step.
#pragma once

#include <cmath>

#include "math/hd.h"
#include "math/square_root.h"

namespace fastnce::math {

template <class T>
struct Adam {
  static constexpr const char* kName = "adam";
  static constexpr int kElementStates = 2;  // the first and the second moment
  static constexpr bool kRowState = false;

  T rate, eps, keep1, keep2, take1, take2;

  // rate m / c1 / (sqrt(v / c2) + e) = (rate sqrt(c2) / c1) m / (sqrt(v) + e sqrt(c2)), with c the bias corrections:
  // `eps` is e sqrt(c2) where it is added to the corrected root (torch.optim.Adam, FBGEMM), else it is added to
  // sqrt(v).
  template <class Given>
  explicit Adam(const Given& given)
      : keep1(static_cast<T>(given.beta1)),
        keep2(static_cast<T>(given.beta2)),
        take1(static_cast<T>(1.0 - given.beta1)),
        take2(static_cast<T>(1.0 - given.beta2)) {
    const auto step = static_cast<double>(given.step);
    const double root = std::sqrt(1.0 - std::pow(given.beta2, step));
    rate = static_cast<T>(given.learning_rate * root / (1.0 - std::pow(given.beta1, step)));
    eps = static_cast<T>(given.eps_corrected ? given.eps * root : given.eps);
  }

  FASTNCE_HD T step(T gradient, T& first, T& second) const {
    first = keep1 * first + take1 * gradient;
    second = keep2 * second + take2 * gradient * gradient;
    return rate * first / (square_root(second) + eps);
  }
};

}  // namespace fastnce::math
