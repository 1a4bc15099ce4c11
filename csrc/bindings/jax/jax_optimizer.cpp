// Optimizers of class tables for JAX on the CPU: tables and their states are updated in the memory of donated arrays.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "bindings/arrays/row_padding.h"
#include "bindings/jax/jax_ffi.h"
#include "fastnce/optimizer.h"

namespace fastnce::bindings::jax {

namespace {

// What an update has for one table: as operands the table, gradients of some of its rows and the states that the
// optimizer keeps for it; as results the table and the states again. Of these the operands are not read: XLA has been
// told that they are in the memory of the results.
class UpdatedTable {
 public:
  // The first operand and the first result that are the table's.
  UpdatedTable(const Call& call, std::int64_t operand, std::int64_t result)
      : table(call.result(result)),
        gradients(call.operand(operand + 1)),
        columns(table.rank() > 1 ? table.dimension(1) : 1),
        shard{table.data(), table.dimension(0), columns},
        call_(call),
        result_(result) {}
  UpdatedTable(const UpdatedTable&) = delete;

  const Buffer table;      // [V, D], or [V] of biases
  const Buffer gradients;  // [n, D] or [n]
  const std::int64_t columns;
  const Shard shard;

  std::span<const std::byte> gradient_bytes(std::size_t rows) const {
    const std::size_t expected = rows * static_cast<std::size_t>(columns);
    if (gradients.elements() != expected) {
      throw InvalidValue(concat("gradients of rows have ", gradients.elements(), " elements: expected ", expected));
    }
    return {static_cast<const std::byte*>(gradients.data()), gradients.bytes()};
  }

  void write_states(const OptimizerStates& kept, DType dtype, void** states) const {
    const auto elements = static_cast<std::size_t>(shard.rows * (kept.rowwise ? 1 : columns));
    for (int i = 0; i < kept.count; ++i) {
      const Buffer state = call_.result(result_ + 1 + i);
      require_extent(state, "a state", elements, dtype);
      states[i] = state.data();
    }
  }

 private:
  const Call& call_;
  const std::int64_t result_;
};

double scalar_operand(const Buffer& buffer) {
  const bool wide = buffer.type() == ElementType::kFloat64;
  require_extent(buffer, "the learning rate", 1, wide ? DType::kFloat64 : DType::kFloat32);
  return wide ? *static_cast<const double*>(buffer.data()) : *static_cast<const float*>(buffer.data());
}

// What changes from step to step are operands; the others are attributes by the names of _core.Optimizer.set.
Optimizer optimizer_of(const Call& call) {
  const auto number = [&](std::string_view name) { return call.has(name) ? call.number(name) : 0.0; };
  const HostIds step(call.operand(2));
  if (step.all().size() != 1) throw InvalidValue(concat("the step has ", step.all().size(), " elements: expected 1"));
  Optimizer optimizer{.kind = optimizer_named(call.text("kind")),
                      .learning_rate = scalar_operand(call.operand(1)),
                      .momentum = number("momentum"),
                      .beta1 = number("beta1"),
                      .beta2 = number("beta2"),
                      .eps = number("eps"),
                      .eps_inside_sqrt = number("eps_inside_sqrt") != 0.0,
                      .eps_corrected = number("eps_corrected") != 0.0,
                      .weight_decay = number("weight_decay"),
                      .step = step.all()[0]};
  if (call.has("rounding_seed")) optimizer.rounding_seed = static_cast<std::uint64_t>(call.integer("rounding_seed"));
  return optimizer;
}

// Operands: ids [n], the learning rate, the number of the step; then what UpdatedTable says of weights and, if there
// are any, of biases.
void update_tables(const xla::CallFrame& frame) {
  constexpr std::int64_t kShared = 3;
  const std::int64_t count = frame.operands.size - frame.results.size - kShared;  // each table has one gradient
  if (count != 1 && count != 2) throw InvalidValue(concat(count, " tables: expected weights, and biases or none"));
  const std::int64_t results = frame.results.size / count;
  const Call call(frame, kShared + count * (results + 1), count * results);
  RowUpdate update{.optimizer = optimizer_of(call)};
  const OptimizerStates kept = states_of(update.optimizer.kind);
  if (results != 1 + kept.count) throw InvalidValue(concat(results - 1, " states of a table: expected ", kept.count));

  const HostIds ids(call.operand(0));
  const UpdatedTable weights(call, kShared, 0);
  Scoring tables;
  tables.weights_dtype = dtype_of(weights.table);
  tables.dtype = *tables.weights_dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  tables.dim = weights.columns;
  tables.num_classes = weights.shard.rows;
  tables.weights.shards = {&weights.shard, 1};
  weights.write_states(kept, tables.dtype, update.weights_states);
  GradientRows rows{.ids = ids.all().data(),
                    .weights = weights.gradients.wanted(),
                    .weights_stride = weights.columns,
                    .weights_dtype = dtype_of(weights.gradients)};
  std::vector gradients{weights.gradient_bytes(ids.all().size())};

  std::optional<UpdatedTable> biases;
  if (count == 2) {
    biases.emplace(call, kShared + results + 1, results);
    tables.biases_dtype = dtype_of(biases->table);
    tables.biases.shards = {&biases->shard, 1};
    biases->write_states(kept, tables.dtype, update.biases_states);
    rows.biases = biases->gradients.wanted();
    rows.biases_dtype = dtype_of(biases->gradients);
    gradients.push_back(biases->gradient_bytes(ids.all().size()));
  }
  rows.count = static_cast<std::int64_t>(rows_before_padding(ids.all(), gradients));
  update_rows(update, tables, rows);
}

}  // namespace

xla::Handler* const kUpdateRowsOnCpu = kOnCpu<update_tables>;

}  // namespace fastnce::bindings::jax
