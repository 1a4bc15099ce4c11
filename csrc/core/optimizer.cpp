// Optimizers: names, checks, and the entry point of updates from gradients that were computed before.
#include "core/optimizer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <type_traits>
#include <vector>

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

// The memory of a shard of a table: `width` bytes every `stride` bytes.
struct Rows {
  Rows(const char* name, const Shard& shard, std::int64_t columns, DType dtype)
      : name(name),
        extent(extent_of(shard, columns, dtype)),
        count(shard.rows),
        stride(std::abs(shard.row_stride) * element_bytes(dtype)),
        width(columns * element_bytes(dtype)) {}

  bool is_empty() const { return extent.begin == extent.end; }
  // Other columns of one array lie between these, and share none of it.
  bool shares_memory(const Rows& other) const {
    if (!extent.overlaps(other.extent)) return false;
    const std::int64_t apart_rows = count > 1 ? stride : other.stride;
    if (count > 1 && other.count > 1 && stride != other.stride) return true;
    if (count <= 1 && other.count <= 1) return true;
    const std::int64_t distance = (extent.begin - other.extent.begin) % apart_rows;
    const std::int64_t behind = distance < 0 ? distance + apart_rows : distance;
    return behind < other.width || apart_rows - behind < width;
  }

  const char* name;  // of the table
  Extent extent;
  std::int64_t count, stride, width;
};

// Those that an update writes to.
std::vector<Rows> updated_rows(const Scoring& tables, bool of_weights, bool of_biases) {
  std::vector<Rows> all;
  const auto add = [&](const char* name, const Table& table, std::int64_t columns, std::optional<DType> dtype) {
    require_apart_rows(table, name, columns);
    for (const Shard& shard : table.shards) {
      const Rows& rows = all.emplace_back(name, shard, columns, dtype.value_or(tables.dtype));
      if (rows.is_empty()) all.pop_back();
    }
  };
  if (of_weights) add("weights", tables.weights, tables.dim, tables.weights_dtype);
  if (of_biases) add("biases", tables.biases, 1, tables.biases_dtype);
  return all;
}

void require_each_row_once(std::vector<Rows> all) {
  std::ranges::sort(all, {}, [](const Rows& rows) { return rows.extent.begin; });
  for (auto one = all.begin(); one != all.end(); ++one) {
    for (auto other = one + 1; other != all.end() && other->extent.begin < one->extent.end; ++other) {
      if (!one->shares_memory(*other)) continue;
      if (one->name == other->name) {
        throw InvalidValue(concat(one->name, " has shards that share memory: expected each row once; update copies"));
      }
      throw InvalidValue("biases shares memory with weights: expected an array of its own, as biases.copy()");
    }
  }
}

void require_elsewhere(const char* name, const Extent& read, const char* updated, const Extent& written) {
  if (read.begin == read.end || !read.overlaps(written)) return;
  throw InvalidValue(concat(name, " shares memory with ", updated, ", which is updated while ", name,
                            " is read: expected an array of its own, as ", name, ".copy()"));
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
  const std::vector<Rows> updated = updated_rows(tables, of_weights, of_biases);
  require_each_row_once(updated);
  const Extent inputs(tables.inputs, tables.batch, tables.inputs_stride, tables.dim,
                      tables.inputs_dtype.value_or(tables.dtype));
  for (const Rows& rows : updated) require_elsewhere("inputs", inputs, rows.name, rows.extent);
}

void validate_update(const RowUpdate& update, const Scoring& tables, const GradientRows& rows) {
  const bool of_weights = rows.weights != nullptr, of_biases = rows.biases != nullptr;
  validate_update(update, tables, of_weights, of_biases);
  const OptimizerStates states = states_of(update.optimizer.kind);
  const std::vector<Rows> updated = updated_rows(tables, of_weights, of_biases);
  const auto require = [&](const char* name, const Extent& read) {
    for (const Rows& written : updated) {
      require_elsewhere(name, read, written.name, written.extent);
    }
    for (int i = 0; i < states.count; ++i) {
      const std::int64_t columns = states.rowwise ? 1 : tables.dim;
      const Extent weights(update.weights_states[i], tables.num_classes, columns, columns, tables.dtype);
      const Extent biases(update.biases_states[i], tables.num_classes, 1, 1, tables.dtype);
      if (of_weights) require_elsewhere(name, read, "a state of weights", weights);
      if (of_biases) require_elsewhere(name, read, "a state of biases", biases);
    }
  };
  const auto extent = [&](const void* data, std::int64_t stride, std::int64_t columns, std::optional<DType> dtype) {
    return Extent(data, rows.count, stride, columns, dtype.value_or(tables.dtype));
  };
  if (of_weights) require("rows", extent(rows.weights, rows.weights_stride, tables.dim, rows.weights_dtype));
  if (of_biases) require("bias_rows", extent(rows.biases, 1, 1, rows.biases_dtype));
}

void update_rows(const RowUpdate& update, const Scoring& tables, const GradientRows& rows) {
  LossRequest request = request_of(tables, {.per_example = 0}, {});
  request.batch = 0;
  validate_shapes(request);
  validate_row_arrays(rows, request);
  GradientRows used = rows;
  used.count = cpu::rows_before_padding(rows, request);
  validate_rows(used, request);
  validate_update(update, request, used);
  cpu::update_rows(update, request, used);
}

}  // namespace fastnce
