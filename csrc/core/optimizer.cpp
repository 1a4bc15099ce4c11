// Optimizers: names, checks, and the entry point of updates from gradients that were computed before.
#include "core/optimizer.h"

#include <array>
#include <cmath>
#include <string>
#include <type_traits>

#include "core/validate.h"
#include "cpu/rows/update_rows.h"
#include "fastnce/error.h"
#include "fastnce/extent.h"
#include "math/optimizer/registry.h"

namespace fastnce {

namespace {

struct Row {
  const char* name;
  OptimizerStates states;
};

// All optimizers.
constexpr auto kRows = []<class... O>(std::type_identity<std::tuple<O...>>) {
  static_assert(((O::kElementStates <= kMostStates && !(O::kRowState && O::kElementStates > 0)) && ...));
  return std::array{Row{O::kName, {O::kRowState ? 1 : O::kElementStates, O::kRowState}}...};
}(std::type_identity<math::Optimizers<float>>{});

void require_number(const char* name, double value, bool holds, const char* expected) {
  if (!std::isfinite(value) || !holds) throw InvalidValue(concat(name, " = ", value, ": expected ", expected));
}

void require_apart_rows(const Table& table, const char* name, std::int64_t columns) {
  for (const Shard& shard : table.shards) {
    if (shard.rows < 2 || std::abs(shard.row_stride) >= columns) continue;
    throw InvalidValue(concat(name, " has rows ", shard.row_stride, " elements apart: expected at least ", columns,
                              ", so that no two share memory; update a copy"));
  }
}

void require_inputs_elsewhere(const Scoring& r, const Table& table, const char* name, std::int64_t columns,
                              std::optional<DType> dtype) {
  const Extent inputs(r.inputs, r.batch, r.inputs_stride, r.dim, r.inputs_dtype.value_or(r.dtype));
  for (const Shard& shard : table.shards) {
    if (!inputs.overlaps(extent_of(shard, columns, dtype.value_or(r.dtype)))) continue;
    throw InvalidValue(
        concat("inputs shares memory with ", name,
               ", which is updated while inputs is read: expected an array of its own, as inputs.copy()"));
  }
}

}  // namespace

OptimizerKind optimizer_named(std::string_view name) {
  std::string names;
  for (std::size_t i = 0; i < kRows.size(); ++i) {
    if (name == kRows[i].name) return static_cast<OptimizerKind>(i);
    names += concat(i == 0 ? "" : ", ", "'", kRows[i].name, "'");
  }
  throw InvalidValue(concat("optimizer = '", name, "': expected one of ", names));
}

OptimizerStates states_of(OptimizerKind kind) { return kRows.at(static_cast<std::size_t>(kind)).states; }

void validate(const Optimizer& o) {
  constexpr const char* kNotNegative = "a finite number, at least 0";
  require_number("lr", o.learning_rate, o.learning_rate >= 0.0, kNotNegative);
  require_number("momentum", o.momentum, o.momentum >= 0.0, kNotNegative);
  require_number("betas[0]", o.beta1, o.beta1 >= 0.0 && o.beta1 < 1.0, "a number in [0, 1)");
  require_number("betas[1]", o.beta2, o.beta2 >= 0.0 && o.beta2 < 1.0, "a number in [0, 1)");
  require_number("eps", o.eps, o.eps >= 0.0, kNotNegative);
  require_number("weight_decay", o.weight_decay, o.weight_decay >= 0.0, kNotNegative);
  if (o.step < 1) throw InvalidValue(concat("step = ", o.step, ": expected at least 1"));
}

void validate_update(const RowUpdate& update, const Scoring& tables, bool of_weights, bool of_biases) {
  validate(update.optimizer);
  const OptimizerStates states = states_of(update.optimizer.kind);
  const bool has_elements = tables.num_classes > 0 && (tables.dim > 0 || states.rowwise);
  for (int i = 0; i < states.count; ++i) {
    require_array(of_weights && has_elements ? 1 : 0, update.weights_states[i], "weights_states");
    require_array(of_biases ? tables.num_classes : 0, update.biases_states[i], "biases_states");
  }
  if (of_weights) {
    require_apart_rows(tables.weights, "weights", tables.dim);
    require_inputs_elsewhere(tables, tables.weights, "weights", tables.dim, tables.weights_dtype);
  }
  if (of_biases) {
    require_apart_rows(tables.biases, "biases", 1);
    require_inputs_elsewhere(tables, tables.biases, "biases", 1, tables.biases_dtype);
  }
}

void update_rows(const RowUpdate& update, const Scoring& tables, const GradientRows& rows) {
  LossRequest request = request_of(tables, {.per_example = 0}, {});
  request.batch = 0;
  validate_shapes(request);
  validate_update(update, request, rows.weights != nullptr, rows.biases != nullptr);
  validate_rows(rows, request);
  cpu::update_rows(update, request, rows);
}

}  // namespace fastnce
