// The list of optimizers: a new one is a header and an entry of the list. An optimizer is a struct, a template of the
// compute type, that both backends copy into their loops. It has
//   kName            its name for optimizer_named()
//   kElementStates   how many numbers it keeps for each element of a table: 0, 1 or 2
//   kRowState        whether it keeps one for each row instead
//   a constructor    from a valid fastnce::Optimizer: a template, since math/ does not include that
//   begin_row(m, s)  with the mean of the squares of the row's gradient and the row's state. Only if kRowState
//   step(g, a, b)    what is subtracted from an element with gradient g; updates its states a and b
#pragma once

#include <cstddef>
#include <tuple>

#include "math/optimizer/adagrad.h"
#include "math/optimizer/adam.h"
#include "math/optimizer/momentum.h"
#include "math/optimizer/rowwise_adagrad.h"
#include "math/optimizer/sgd.h"

namespace fastnce {

enum class OptimizerKind : int;  // as in the public header, which math/ does not include

namespace math {

// A kind is an index into this list. The first is the default.
template <class T>
using Optimizers = std::tuple<Sgd<T>, Momentum<T>, Adagrad<T>, RowwiseAdagrad<T>, Adam<T>>;

// Calls function(optimizer) for the kind of `given`, a fastnce::Optimizer.
template <class T, std::size_t kIndex = 0, class Given, class Function>
[[gnu::always_inline]] inline void with_optimizer(const Given& given, const Function& function) {
  using O = std::tuple_element_t<kIndex, Optimizers<T>>;
  if constexpr (kIndex + 1 < std::tuple_size_v<Optimizers<T>>) {
    if (given.kind != static_cast<OptimizerKind>(kIndex)) {
      with_optimizer<T, kIndex + 1>(given, function);
      return;
    }
  }
  function(O(given));
}

}  // namespace math
}  // namespace fastnce
