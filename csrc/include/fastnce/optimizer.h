// Optimizers of class tables: they update the rows that a step touches, in place, and leave all others as they are.
//
// A row's gradients are added up before it is updated, so that a class that occurs twice counts as one step. With w the
// row, g its gradient and `kind` the formula (csrc/math/optimizer/):  w := (1 - learning_rate * weight_decay) w -
// step(g)
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "fastnce/loss.h"
#include "fastnce/types.h"

namespace fastnce {

// An index into the list of csrc/math/optimizer/registry.h, which names them: 0 is "sgd".
enum class OptimizerKind : int {};

// Throws InvalidValue for a name that is not in the list.
OptimizerKind optimizer_named(std::string_view name);

// What a kind keeps: arrays [V, D] or, if `rowwise`, one [V].
struct OptimizerStates {
  int count;
  bool rowwise;
};
OptimizerStates states_of(OptimizerKind kind);

inline constexpr int kMostStates = 2;

// One step of one kind. What a kind does not have is not read.
struct Optimizer {
  OptimizerKind kind{};
  double learning_rate = 0.0;  // of this step
  double momentum = 0.0;
  double beta1 = 0.9, beta2 = 0.999;
  double eps = 0.0;
  bool eps_inside_sqrt = false;  // of Adagrad: sqrt(sum + eps), else sqrt(sum) + eps
  bool eps_corrected = false;    // of Adam: eps is added to the root of the corrected moment
  double weight_decay = 0.0;     // decoupled; of the rows that are touched
  std::int64_t step = 1;         // the number of this step, from 1
  // float16 and bfloat16 tables: rounded up or down at random, by this seed, step, row and column; none: to nearest.
  std::optional<std::uint64_t> rounding_seed = {};
};

// Throws InvalidValue, by the names of Python's arguments, unless all numbers are usable.
void validate(const Optimizer& optimizer);

// An optimizer with its states of a call's tables, in the compute dtype, row-major: [V, D] or [V] each. The states of
// biases are [V].
struct RowUpdate {
  Optimizer optimizer;
  void* weights_states[kMostStates] = {};
  void* biases_states[kMostStates] = {};
};

// Gradients of rows, in any order; a row may occur several times.
struct GradientRows {
  std::int64_t count = 0;                                      // n
  const std::int64_t* ids = nullptr;                           // [n], each in [0, V)
  const void* weights = nullptr;                               // [n, D]; null: those of biases alone
  std::int64_t weights_stride = 0;                             // elements from one row to the next
  const void* biases = nullptr;                                // [n], contiguous; null: biases are not updated
  std::optional<DType> weights_dtype = {}, biases_dtype = {};  // where they are not the compute dtype
  // The last of them may be padding: the id before once more, with gradients of zero bits. Where that is all there is,
  // as after a batch without classes, no row is updated.
  bool padded = false;
};

// Updates the rows of `tables`, whose weights and biases are written to; batch and inputs are not read. Each row is
// computed by one thread: results do not depend on their number. Throws InvalidValue before anything is written;
// an interrupted call has written nothing.
void update_rows(const RowUpdate& update, const Scoring& tables, const GradientRows& rows);

}  // namespace fastnce
