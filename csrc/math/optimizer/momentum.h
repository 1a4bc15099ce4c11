// Gradient descent with momentum (torch.optim.SGD with momentum, dampening 0), whose velocity a row keeps until it is
// touched again.
#pragma once

#include "math/hd.h"

namespace fastnce::math {

template <class T>
struct Momentum {
  static constexpr const char* kName = "momentum";
  static constexpr int kElementStates = 1;  // the velocity
  static constexpr bool kRowState = false;

  T rate, momentum;

  template <class Given>
  explicit Momentum(const Given& given)
      : rate(static_cast<T>(given.learning_rate)), momentum(static_cast<T>(given.momentum)) {}

  FASTNCE_HD T step(T gradient, T& velocity, T&) const {
    velocity = momentum * velocity + gradient;
    return rate * velocity;
  }
};

}  // namespace fastnce::math
