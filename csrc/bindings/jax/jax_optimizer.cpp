// Optimizers of class tables for JAX: tables and their states are updated in the memory of donated arrays.
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

#include "bindings/jax/jax_device.h"
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

  void require_gradients(std::size_t rows) const {
    const std::size_t expected = rows * static_cast<std::size_t>(columns);
    if (gradients.elements() == expected) return;
    throw InvalidValue(concat("gradients of rows have ", gradients.elements(), " elements: expected ", expected));
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

// The attributes have the names of _core.Optimizer.set. What changes from step to step are operands.
Optimizer numbers_of(const Call& call) {
  const auto number = [&](std::string_view name) { return call.has(name) ? call.number(name) : 0.0; };
  Optimizer optimizer{.kind = optimizer_named(call.text("kind")),
                      .momentum = number("momentum"),
                      .beta1 = number("beta1"),
                      .beta2 = number("beta2"),
                      .eps = number("eps"),
                      .eps_inside_sqrt = number("eps_inside_sqrt") != 0.0,
                      .eps_corrected = number("eps_corrected") != 0.0,
                      .weight_decay = number("weight_decay")};
  if (call.has("rounding_seed")) optimizer.rounding_seed = static_cast<std::uint64_t>(call.integer("rounding_seed"));
  return optimizer;
}

// An update as XLA describes it. Operands: ids [n], the learning rate, the number of the step; then what UpdatedTable
// says of weights and, if there are any, of biases. The first three are not read here: that depends on where they are.
class UpdateCall {
 public:
  explicit UpdateCall(const xla::CallFrame& frame)
      : tables_(tables_in(frame)),
        results_(frame.results.size / tables_),
        call_(frame, kShared + tables_ * (results_ + 1), tables_ * results_),
        weights_(call_, kShared, 0) {
    require_extent(rate, "the learning rate", 1,
                   rate.type() == ElementType::kFloat64 ? DType::kFloat64 : DType::kFloat32);
    if (step.elements() != 1) throw InvalidValue(concat("the step has ", step.elements(), " elements: expected 1"));
    update.optimizer = numbers_of(call_);
    const OptimizerStates kept = states_of(update.optimizer.kind);
    if (results_ != 1 + kept.count) {
      throw InvalidValue(concat(results_ - 1, " states of a table: expected ", kept.count));
    }
    tables.weights_dtype = dtype_of(weights_.table);
    tables.dtype = *tables.weights_dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
    tables.dim = weights_.columns;
    tables.num_classes = weights_.shard.rows;
    tables.weights.shards = {&weights_.shard, 1};
    weights_.write_states(kept, tables.dtype, update.weights_states);
    weights_.require_gradients(ids.elements());
    rows = {.count = static_cast<std::int64_t>(ids.elements()),
            .weights = weights_.gradients.wanted(),
            .weights_stride = weights_.columns,
            .weights_dtype = dtype_of(weights_.gradients),
            .padded = true};
    if (tables_ == 1) return;
    biases_.emplace(call_, kShared + results_ + 1, results_);
    tables.biases_dtype = dtype_of(biases_->table);
    tables.biases.shards = {&biases_->shard, 1};
    biases_->write_states(kept, tables.dtype, update.biases_states);
    biases_->require_gradients(ids.elements());
    rows.biases = biases_->gradients.wanted();
    rows.biases_dtype = dtype_of(biases_->gradients);
  }
  UpdateCall(const UpdateCall&) = delete;

  // What the operands hold: the bits of the rate, in the low half where it is a float, and the step.
  void set_numbers(std::int64_t rate_bits, std::int64_t step_number) {
    update.optimizer.learning_rate = rate.type() == ElementType::kFloat64
                                         ? std::bit_cast<double>(rate_bits)
                                         : std::bit_cast<float>(static_cast<std::int32_t>(rate_bits));
    update.optimizer.step = step_number;
  }

 private:
  static constexpr std::int64_t kShared = 3;

  static std::int64_t tables_in(const xla::CallFrame& frame) {
    const std::int64_t count = frame.operands.size - frame.results.size - kShared;  // each table has one gradient
    if (count == 1 || count == 2) return count;
    throw InvalidValue(concat(count, " tables: expected weights, and biases or none"));
  }

  const std::int64_t tables_, results_;  // results of each table
  const Call call_;
  const UpdatedTable weights_;
  std::optional<UpdatedTable> biases_;

 public:
  const Buffer ids = call_.operand(0), rate = call_.operand(1), step = call_.operand(2);
  RowUpdate update;
  Scoring tables;
  GradientRows rows;  // without ids
};

void update_on_cpu(const xla::CallFrame& frame) {
  UpdateCall call(frame);
  const HostIds ids(call.ids), step(call.step);
  std::int64_t rate_bits = 0;
  std::memcpy(&rate_bits, call.rate.data(), call.rate.bytes());
  call.set_numbers(rate_bits, step.all()[0]);
  call.rows.ids = ids.all().data();
  update_rows(call.update, call.tables, call.rows);
}

// The backend takes the numbers of a step from the host: this waits for rate and step.
void queue_update_on_cuda(const xla::CallFrame& frame) {
  UpdateCall call(frame);
  DeviceCall gpu(frame);
  call.set_numbers(gpu.read_bits(call.rate), gpu.read_bits(call.step));
  call.rows.ids = gpu.ids(call.ids);
  const std::size_t bytes = cuda::update_rows_workspace_bytes(call.tables, call.rows, gpu.stream().device);
  cuda::update_rows(call.update, call.tables, call.rows, gpu.workspace(bytes), gpu.stream());
}

}  // namespace

xla::Handler* const kUpdateRowsOnCpu = kOnCpu<update_on_cpu>;
xla::Handler* const kUpdateRowsOnCuda = kOnCuda<queue_update_on_cuda>;

}  // namespace fastnce::bindings::jax
