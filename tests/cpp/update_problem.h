// A step of an optimizer that owns its tables, states and gradients, and its solution by the formulas, one element at a
// time, in a precision above that of either element type.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string_view>
#include <utility>
#include <vector>

#include "fastnce/optimizer.h"

namespace fastnce {

struct Rule {
  std::string_view kind;
  Optimizer numbers = {};

  Optimizer optimizer() const {
    Optimizer all = numbers;
    all.kind = optimizer_named(kind);
    return all;
  }
};

// Every kind, in each of its forms.
inline constexpr Rule kRules[] = {
    {"sgd", {.learning_rate = 0.3}},
    {"sgd", {.learning_rate = 0.3, .weight_decay = 0.2}},
    {"momentum", {.learning_rate = 0.3, .momentum = 0.9}},
    {"adagrad", {.learning_rate = 0.3, .eps = 0.01, .weight_decay = 0.1}},
    {"adagrad", {.learning_rate = 0.3, .eps = 0.01, .eps_inside_sqrt = true}},
    {"rowwise_adagrad", {.learning_rate = 0.3, .eps = 0.01}},
    {"rowwise_adagrad", {.learning_rate = 0.3, .eps = 0.01, .eps_inside_sqrt = true, .weight_decay = 0.1}},
    {"adam", {.learning_rate = 0.3, .beta1 = 0.8, .beta2 = 0.95, .eps = 0.01, .weight_decay = 0.1, .step = 3}},
    {"adam", {.learning_rate = 0.3, .beta1 = 0.8, .beta2 = 0.95, .eps = 0.01, .eps_corrected = true, .step = 3}},
};

// One table [V, columns], what is kept for it and what it becomes.
template <class T>
struct Updated {
  std::vector<T> table;
  std::vector<T> states[kMostStates];
};

template <class T>
struct UpdateProblem {
  std::int64_t num_classes, dim;
  Optimizer optimizer;
  Updated<T> weights, biases;
  std::vector<std::int64_t> ids;
  std::vector<T> rows, bias_rows;  // [n, D] and [n]
  bool padded = false;             // see GradientRows
  Shard weight_shard, bias_shard;

  // `count` gradients, of the first `distinct` classes only.
  UpdateProblem(const Rule& rule, std::int64_t num_classes, std::int64_t dim, std::int64_t count,
                std::int64_t distinct = 1'000'000)
      : num_classes(num_classes), dim(dim), optimizer(rule.optimizer()) {
    std::mt19937_64 random(static_cast<std::uint64_t>(num_classes * 31 + dim * 7 + count));
    std::normal_distribution<double> normal;
    const auto fill = [&](std::vector<T>& values, std::int64_t size, bool positive) {
      values.resize(static_cast<std::size_t>(size));
      for (T& value : values) {
        value = static_cast<T>(normal(random));
        if (positive) value = std::abs(value);
      }
    };
    const OptimizerStates kept = states_of(optimizer.kind);
    for (auto [updated, columns] : {std::pair{&weights, dim}, std::pair{&biases, std::int64_t{1}}}) {
      fill(updated->table, num_classes * columns, false);
      for (int i = 0; i < kept.count; ++i) fill(updated->states[i], num_classes * (kept.rowwise ? 1 : columns), true);
    }
    fill(rows, count * dim, false);
    fill(bias_rows, count, false);
    const auto range = static_cast<std::uint64_t>(std::min(distinct, num_classes));
    for (std::int64_t i = 0; i < count; ++i) ids.push_back(static_cast<std::int64_t>(random() % range));
    weight_shard = {weights.table.data(), num_classes, dim};
    bias_shard = {biases.table.data(), num_classes, 1};
  }
  UpdateProblem(const UpdateProblem&) = delete;

  Scoring tables() const {
    Scoring all;
    all.dtype = sizeof(T) == sizeof(float) ? DType::kFloat32 : DType::kFloat64;
    all.dim = dim;
    all.num_classes = num_classes;
    all.weights.shards = {&weight_shard, 1};
    all.biases.shards = {&bias_shard, 1};
    return all;
  }
  RowUpdate update() {
    RowUpdate all{.optimizer = optimizer};
    for (int i = 0; i < kMostStates; ++i) {
      all.weights_states[i] = weights.states[i].data();
      all.biases_states[i] = biases.states[i].data();
    }
    return all;
  }
  GradientRows gradients() const {
    return {.count = std::ssize(ids),
            .ids = ids.data(),
            .weights = rows.data(),
            .weights_stride = dim,
            .biases = bias_rows.data(),
            .padded = padded};
  }
  void run() { update_rows(update(), tables(), gradients()); }

  // All gradients become padding, of the class `id`.
  void pad_all(std::int64_t id) {
    padded = true;
    std::ranges::fill(ids, id);
    std::ranges::fill(rows, T{0});
    std::ranges::fill(bias_rows, T{0});
  }
};

using Real = long double;

// One row and its states after a step.
inline void step_row(const Optimizer& o, std::vector<Real>& row, std::vector<Real> (&states)[kMostStates],
                     const std::vector<Real>& gradient) {
  const auto is = [&](std::string_view name) { return o.kind == optimizer_named(name); };
  const auto root = [&](Real sum) {
    return o.eps_inside_sqrt ? std::sqrt(sum + static_cast<Real>(o.eps)) : std::sqrt(sum) + static_cast<Real>(o.eps);
  };
  if (is("rowwise_adagrad")) {
    Real squares = 0;
    for (const Real g : gradient) squares += g * g;
    states[0][0] += squares / static_cast<Real>(gradient.size());
  }
  for (std::size_t d = 0; d < row.size(); ++d) {
    const Real g = gradient[d];
    Real step = g;
    if (is("momentum")) {
      step = states[0][d] = o.momentum * states[0][d] + g;
    } else if (is("adagrad")) {
      states[0][d] += g * g;
      step = g / root(states[0][d]);
    } else if (is("rowwise_adagrad")) {
      step = g / root(states[0][0]);
    } else if (is("adam")) {
      Real &m = states[0][d], &v = states[1][d];
      m = o.beta1 * m + (1 - static_cast<Real>(o.beta1)) * g;
      v = o.beta2 * v + (1 - static_cast<Real>(o.beta2)) * g * g;
      const Real first = 1 - std::pow(static_cast<Real>(o.beta1), static_cast<Real>(o.step));
      const Real second = 1 - std::pow(static_cast<Real>(o.beta2), static_cast<Real>(o.step));
      const Real below = o.eps_corrected ? std::sqrt(v / second) + o.eps : (std::sqrt(v) + o.eps) / std::sqrt(second);
      step = m / first / below;
    }
    row[d] = (1 - static_cast<Real>(o.learning_rate) * o.weight_decay) * row[d] - o.learning_rate * step;
  }
}

// A table and its states after the step on the sums of the gradients [n, columns] of each class. Gradients of classes
// out of range add nothing.
template <class T>
Updated<Real> solve(const Optimizer& optimizer, const Updated<T>& given, const std::vector<std::int64_t>& ids,
                    const std::vector<T>& gradients, std::int64_t num_classes) {
  const auto real = [](const std::vector<T>& values) { return std::vector<Real>(values.begin(), values.end()); };
  Updated<Real> all{real(given.table), {real(given.states[0]), real(given.states[1])}};
  const std::size_t columns = num_classes == 0 ? 0 : given.table.size() / static_cast<std::size_t>(num_classes);
  for (std::int64_t id = 0; id < num_classes; ++id) {
    std::vector<Real> sum(columns);
    bool touched = false;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] != id) continue;
      touched = true;
      for (std::size_t d = 0; d < columns; ++d) sum[d] += gradients[i * columns + d];
    }
    if (!touched) continue;
    // Of a state, the numbers of this row: one for each column, or one.
    const auto of_row = [&](std::vector<Real>& values) {
      const std::size_t width = values.size() / static_cast<std::size_t>(num_classes);
      return std::pair{values.begin() + static_cast<std::ptrdiff_t>(width) * id, width};
    };
    const auto taken = [&](std::vector<Real>& values) {
      const auto [begin, width] = of_row(values);
      return std::vector<Real>(begin, begin + static_cast<std::ptrdiff_t>(width));
    };
    std::vector<Real> row = taken(all.table);
    std::vector<Real> states[kMostStates] = {taken(all.states[0]), taken(all.states[1])};
    step_row(optimizer, row, states, sum);
    std::ranges::copy(row, of_row(all.table).first);
    for (int i = 0; i < kMostStates; ++i) std::ranges::copy(states[i], of_row(all.states[i]).first);
  }
  return all;
}

// Largest difference, relative to the largest number, at least 1.
template <class T, class U>
double largest_error(const std::vector<T>& got, const std::vector<U>& expected) {
  if (got.size() != expected.size()) return INFINITY;
  Real worst = 0, largest = 1;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(got[i])) return INFINITY;
    worst = std::max(worst, std::abs(static_cast<Real>(got[i]) - static_cast<Real>(expected[i])));
    largest = std::max(largest, std::abs(static_cast<Real>(expected[i])));
  }
  return static_cast<double>(worst / largest);
}

template <class T, class U>
double largest_error(const Updated<T>& got, const Updated<U>& expected) {
  return std::max({largest_error(got.table, expected.table), largest_error(got.states[0], expected.states[0]),
                   largest_error(got.states[1], expected.states[1])});
}

// Of sums of tens of gradients, roots and quotients: what a step may be off, by largest_error().
template <class T>
inline constexpr double kStepTolerance = 20 * std::numeric_limits<T>::epsilon();

}  // namespace fastnce
