// Adagrad (Duchi, Hazan, Singer 2011): the step of an element is divided by the root of the sum of its squared
// gradients.
#pragma once

#include "math/hd.h"
#include "math/square_root.h"

namespace fastnce::math {

template <class T>
struct Adagrad {
  static constexpr const char* kName = "adagrad";
  static constexpr int kElementStates = 1;  // the sum of squares
  static constexpr bool kRowState = false;

  T rate, eps_inside, eps_outside;  // one of the two is 0

  template <class Given>
  explicit Adagrad(const Given& given)
      : rate(static_cast<T>(given.learning_rate)),
        eps_inside(static_cast<T>(given.eps_inside_sqrt ? given.eps : 0.0)),
        eps_outside(static_cast<T>(given.eps_inside_sqrt ? 0.0 : given.eps)) {}

  FASTNCE_HD T step(T gradient, T& sum, T&) const {
    sum += gradient * gradient;
    return rate * gradient / (square_root(sum + eps_inside) + eps_outside);
  }
};

}  // namespace fastnce::math
