// A warp updates a row of weights, a thread a bias: the formulas of math/optimizer/, in the same order for every
// element, on 2 to 4 streams of memory. Gradients in any order are first sorted and added up as those of labels are
// (cuda/rows/rows.h).
#include "cuda/rows/update.h"

#include "cuda/rows/columns.cuh"
#include "cuda/rows/row_sort.h"
#include "cuda/rows/rows.h"
#include "cuda/runtime/carver.h"
#include "cuda/runtime/device.cuh"
#include "cuda/runtime/ids.cuh"
#include "cuda/runtime/warp.cuh"
#include "math/optimizer/registry.h"
#include "math/stochastic_rounding.h"

namespace fastnce::cuda {

namespace {

constexpr int kThreads = 256;

template <class O>
struct UpdateArguments {
  O optimizer;
  float keep;  // 1 - learning_rate * weight_decay
  DeviceTable table;
  std::int64_t dim;
  float* states[kMostStates];
  const std::int64_t* ids;  // each once
  const float* gradients;   // [rows, dim]
  const std::int64_t* row_count;
  bool rounds_at_random;
  std::uint64_t seed, step;
  std::uint32_t number;  // of the table: 0 for weights, 1 for biases
};

template <int kColumns>
FASTNCE_DEVICE void load_floats(const float* row, std::int64_t d, float (&value)[kColumns]) {
  RawColumns<kColumns> raw;
  load_columns(row, DType::kFloat32, d, raw);
  convert_columns(raw, DType::kFloat32, value);
}

// Of the row's gradient, in every lane.
template <int kColumns, int kLanes>
FASTNCE_DEVICE float mean_square(const float* gradient, std::int64_t dim, int lane) {
  float sum = 0.0f;
  for (std::int64_t d = lane * kColumns; d < dim; d += kLanes * kColumns) {
    float value[kColumns];
    load_floats(gradient, d, value);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) sum += value[c] * value[c];
  }
  if constexpr (kLanes > 1) sum = sum_over_warp(sum);
  return sum / static_cast<float>(dim);
}

template <class O, int kColumns, int kLanes>
FASTNCE_KERNEL(kThreads, 2)
update_kernel(FASTNCE_ARGUMENTS UpdateArguments<O> args) {
  const int lane = thread_index() % kLanes;
  const std::int64_t row = block_x() * (kThreads / kLanes) + thread_index() / kLanes;
  if (row >= *args.row_count) return;
  const std::int64_t id = args.ids[row];
  const float* const gradient = args.gradients + row_offset(row, args.dim);
  O optimizer = args.optimizer;
  if constexpr (O::kRowState) {
    float state = args.states[0][id];
    optimizer.begin_row(mean_square<kColumns, kLanes>(gradient, args.dim, lane), state);
    if constexpr (kLanes > 1) sync_warp();
    if (lane == 0) args.states[0][id] = state;
  }
  const Row to = args.table.row(id);
  void* const address = const_cast<void*>(to.data);
  const math::RowRandom random = math::row_random(args.seed, args.step, static_cast<std::uint64_t>(id), args.number);
  const bool narrow = args.rounds_at_random && to.dtype != DType::kFloat32;
  const auto state_row = [&](int i) { return args.states[i] + row_offset(id, args.dim); };
  for (std::int64_t d = lane * kColumns; d < args.dim; d += kLanes * kColumns) {
    RawColumns<kColumns> raw;
    load_columns(to.data, to.dtype, d, raw);
    float value[kColumns], g[kColumns], a[kColumns] = {}, b[kColumns] = {};
    convert_columns(raw, to.dtype, value);
    load_floats(gradient, d, g);
    if constexpr (O::kElementStates > 0) load_floats(state_row(0), d, a);
    if constexpr (O::kElementStates > 1) load_floats(state_row(1), d, b);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      value[c] = args.keep * value[c] - optimizer.step(g[c], a[c], b[c]);
      if (!narrow) continue;
      const std::uint32_t bits = math::element_bits(random, static_cast<std::uint32_t>(d + c));
      value[c] = to.dtype == DType::kBFloat16 ? math::stochastic_bfloat16(value[c], bits)
                                              : math::stochastic_float16(value[c], bits);
    }
    store_columns(address, to.dtype, d, value);
    if constexpr (O::kElementStates > 0) store_columns(state_row(0), DType::kFloat32, d, a);
    if constexpr (O::kElementStates > 1) store_columns(state_row(1), DType::kFloat32, d, b);
  }
}

// Whether rows of the table, of the gradients and of the states can be read and written four columns at a time.
template <class O>
bool in_fours(const UpdateArguments<O>& args) {
  const auto aligned = [](const void* data, std::int64_t bytes) {
    return reinterpret_cast<std::uintptr_t>(data) % static_cast<std::uintptr_t>(4 * bytes) == 0;
  };
  bool fours = args.dim % 4 == 0 && aligned(args.gradients, 4);
  for (int i = 0; i < O::kElementStates; ++i) fours = fours && aligned(args.states[i], 4);
  for (std::int64_t i = 0; i < args.table.num_shards; ++i) {
    const Shard& shard = args.table.shards[i];
    fours = fours && shard.row_stride % 4 == 0 && aligned(shard.data, element_bytes(args.table.dtype));
  }
  return fours;
}

// One table. `most` bounds the number of rows.
void queue_update(const Optimizer& optimizer, void* const (&states)[kMostStates], const DeviceTable& table,
                  std::int64_t dim, std::uint32_t number, const std::int64_t* ids, const float* gradients,
                  const std::int64_t* row_count, std::int64_t most, const Stream& stream) {
  if (most == 0 || dim == 0) return;
  math::with_optimizer<float>(optimizer, [&]<class O>(const O& formula) {
    const UpdateArguments<O> args{.optimizer = formula,
                                  .keep = static_cast<float>(1.0 - optimizer.learning_rate * optimizer.weight_decay),
                                  .table = table,
                                  .dim = dim,
                                  .states = {static_cast<float*>(states[0]), static_cast<float*>(states[1])},
                                  .ids = ids,
                                  .gradients = gradients,
                                  .row_count = row_count,
                                  .rounds_at_random = optimizer.rounding_seed.has_value(),
                                  .seed = optimizer.rounding_seed.value_or(0),
                                  .step = static_cast<std::uint64_t>(optimizer.step),
                                  .number = number};
    const auto queue = [&](const auto& kernel, int lanes) {
      launch(kernel, {.x = ceiling(most, kThreads / lanes)}, kThreads, 0, stream, args);
    };
    if (dim == 1) {
      queue(update_kernel<O, 1, 1>, 1);
    } else if (in_fours(args)) {
      queue(update_kernel<O, 4, kWarp>, kWarp);
    } else {
      queue(update_kernel<O, 1, kWarp>, kWarp);
    }
  });
}

struct EnterArguments {
  const std::int64_t* ids;
  std::int64_t count, num_classes;
  float* ones;
  runtime::FaultRecord* faults;
};

// The factors of the gradients, all 1, and a record of ids out of range.
FASTNCE_KERNEL(kThreads, 1) enter_rows_kernel(FASTNCE_ARGUMENTS EnterArguments args) {
  const std::int64_t i = block_x() * kThreads + thread_index();
  if (i >= args.count) return;
  args.ones[i] = 1.0f;
  if (is_valid_id(args.ids[i], args.num_classes)) return;
  record_fault(args.faults, IdArgument::kRowIds, i, args.ids[i], 0, args.num_classes);
}

struct PaddedArguments {
  Rows weights;  // gradients; no data: of biases alone
  const float* biases;
  std::int64_t count, dim;
  std::int64_t* row_count;
};

FASTNCE_DEVICE bool is_zero(const Row& row, std::int64_t d) {
  RawColumns<1> raw;
  load_columns(row.data, row.dtype, d, raw);
  return (row.dtype == DType::kFloat32 ? std::bit_cast<std::uint32_t>(raw.wide) : raw.narrow) == 0;
}

// One warp. Leaves no row where all are padding, see GradientRows::padded; looks no further where there are two.
FASTNCE_KERNEL(kWarp, 1) leave_out_padding_kernel(FASTNCE_ARGUMENTS PaddedArguments args) {
  if (*args.row_count != 1) return;
  const int lane = thread_index();
  for (std::int64_t i = 0; i < args.count; ++i) {
    int others = 0;  // that are not zero
    if (args.weights.data != nullptr) {
      for (std::int64_t d = lane; d < args.dim; d += kWarp) others += is_zero(args.weights[i], d) ? 0 : 1;
    }
    if (args.biases != nullptr) others += is_zero({args.biases, DType::kFloat32}, i) ? 0 : 1;
    if (sum_over_warp(others) != 0) return;
  }
  sync_warp();  // every lane has read the count
  if (lane == 0) *args.row_count = 0;
}

// Gradients in any order, as labels each of which has its gradient for an input.
class SummedRows {
 public:
  SummedRows(const Scoring& tables, const GradientRows& rows, Carver& memory) : rows_(rows) {
    RowOrder& order = sums_.order;
    order.targets = {.ids = rows.ids, .per_example = 1, .lists = {}};
    order.sampled = nullptr;
    order.num_labels = order.room = rows.count;
    order.num_sampled = 0;
    order.num_classes = tables.num_classes;
    order.class_bits = std::bit_width(static_cast<std::uint64_t>(tables.num_classes));
    order.sorted = memory.take<RowEntry>(rows.count);
    order.rows_so_far = memory.take<std::uint32_t>(rows.count);
    order.summary = memory.take<RowSummary>(1);
    if (has_many_entries(rows.count)) {
      order.unsorted = memory.take<RowEntry>(rows.count);
      order.sort_scratch_bytes = sort_bytes(rows.count);
      order.sort_scratch = memory.take<unsigned char>(static_cast<std::int64_t>(order.sort_scratch_bytes));
    }
    order.row_count = memory.take<std::int64_t>(1);
    ones_ = memory.take<float>(rows.count);
    sums_.dim = tables.dim;
    sums_.inputs = {rows.weights, rows.weights_stride, rows.weights_dtype.value_or(tables.dtype)};
    sums_.weight_parts = nullptr;
    sums_.weight_part_count = 1;
    sums_.weight_part = sums_.weight_pitch = 0;
    sums_.bias_sums = nullptr;
    sums_.row_parts = memory.take<float>(2 * sums_.pieces() * tables.dim);
    sums_.bias_parts = memory.take<float>(2 * sums_.pieces());
    sums_.row_ids = memory.take<std::int64_t>(rows.count);
    sums_.grad_weights_dtype = sums_.grad_biases_dtype = DType::kFloat32;
    weights_ = rows.weights != nullptr ? memory.take<float>(rows.count * tables.dim) : nullptr;
    biases_ = rows.biases != nullptr ? memory.take<float>(rows.count) : nullptr;
  }

  void queue(const Stream& stream) {
    launch(enter_rows_kernel, {.x = ceiling(rows_.count, kThreads)}, kThreads, 0, stream,
           EnterArguments{rows_.ids, rows_.count, sums_.order.num_classes, ones_, runtime::fault_record()});
    queue_row_order(sums_.order, stream);
    const auto sum = [&](const float* factors, void* weights, void* biases) {
      sums_.true_grad = factors;
      sums_.grad_weights = weights;
      sums_.grad_biases = biases;
      queue_row_sums(sums_, stream);
    };
    if (weights_ != nullptr) sum(ones_, weights_, nullptr);
    if (biases_ != nullptr) sum(static_cast<const float*>(rows_.biases), nullptr, biases_);
    if (!rows_.padded) return;
    launch(leave_out_padding_kernel, {.x = 1}, kWarp, 0, stream,
           PaddedArguments{.weights = weights_ != nullptr ? sums_.inputs : Rows{},
                           .biases = static_cast<const float*>(rows_.biases),
                           .count = rows_.count,
                           .dim = sums_.dim,
                           .row_count = sums_.order.row_count});
  }

  GradientRows complete() const {
    return {.count = rows_.count,
            .ids = sums_.row_ids,
            .weights = weights_,
            .weights_stride = sums_.dim,
            .biases = biases_};
  }
  const std::int64_t* row_count() const { return sums_.order.row_count; }

 private:
  const GradientRows& rows_;
  RowsArguments sums_{};
  float* ones_;
  float *weights_, *biases_;
};

}  // namespace

std::size_t update_rows_bytes(const Scoring& tables, const GradientRows& rows) {
  Carver measure;
  const SummedRows summed(tables, rows, measure);
  return measure.used();
}

void queue_update_rows(const RowUpdate& update, const Scoring& tables, const GradientRows& rows,
                       const Workspace& workspace, const Stream& stream) {
  if (rows.count == 0) return;
  Carver memory(workspace);
  SummedRows summed(tables, rows, memory);
  memory.require_within(workspace);
  summed.queue(stream);
  queue_update_complete_rows(update, tables, summed.complete(), summed.row_count(), stream);
}

void queue_update_complete_rows(const RowUpdate& update, const Scoring& tables, const GradientRows& rows,
                                const std::int64_t* row_count, const Stream& stream) {
  if (rows.weights != nullptr) {
    queue_update(update.optimizer, update.weights_states,
                 DeviceTable(tables.weights, tables.weights_dtype.value_or(tables.dtype)), tables.dim, 0, rows.ids,
                 static_cast<const float*>(rows.weights), row_count, rows.count, stream);
  }
  if (rows.biases != nullptr) {
    queue_update(update.optimizer, update.biases_states,
                 DeviceTable(tables.biases, tables.biases_dtype.value_or(tables.dtype)), 1, 1, rows.ids,
                 static_cast<const float*>(rows.biases), row_count, rows.count, stream);
  }
}

}  // namespace fastnce::cuda
