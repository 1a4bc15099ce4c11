// Row-wise Adagrad (FBGEMM's EXACT_ROWWISE_ADAGRAD): all elements of a row share one sum, of the mean squares of its
// gradients, so that the state is one number for a row.
#pragma once

#include "math/hd.h"
#include "math/square_root.h"

namespace fastnce::math {

template <class T>
struct RowwiseAdagrad {
  static constexpr const char* kName = "rowwise_adagrad";
  static constexpr int kElementStates = 0;
  static constexpr bool kRowState = true;

  T rate, eps_inside, eps_outside;  // one of the two is 0
  T row_rate = T{0};

  template <class Given>
  explicit RowwiseAdagrad(const Given& given)
      : rate(static_cast<T>(given.learning_rate)),
        eps_inside(static_cast<T>(given.eps_inside_sqrt ? given.eps : 0.0)),
        eps_outside(static_cast<T>(given.eps_inside_sqrt ? 0.0 : given.eps)) {}

  FASTNCE_HD void begin_row(T mean_square, T& sum) {
    sum += mean_square;
    row_rate = rate / (square_root(sum + eps_inside) + eps_outside);
  }
  FASTNCE_HD T step(T gradient, T&, T&) const { return row_rate * gradient; }
};

}  // namespace fastnce::math
