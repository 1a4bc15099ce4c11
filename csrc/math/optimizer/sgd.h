// Gradient descent (torch.optim.SGD).
#pragma once

#include "math/hd.h"

namespace fastnce::math {

template <class T>
struct Sgd {
  static constexpr const char* kName = "sgd";
  static constexpr int kElementStates = 0;
  static constexpr bool kRowState = false;

  T rate;

  template <class Given>
  explicit Sgd(const Given& given) : rate(static_cast<T>(given.learning_rate)) {}

  FASTNCE_HD T step(T gradient, T&, T&) const { return rate * gradient; }
};

}  // namespace fastnce::math
