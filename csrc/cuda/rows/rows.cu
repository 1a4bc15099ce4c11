// All entries are sorted by class (cuda/rows/row_order.h), and the sorted sequence is cut into pieces of equal length,
// one block each, regardless of row boundaries, because the most frequent class can hold a tenth of all labels. A row
// within one piece is finished there. A row that spans pieces leaves one sum per piece; the block of its first piece
// adds them. All sums have a fixed order, so results do not change from run to run.
#include "cuda/rows/rows.h"

#include "cuda/rows/columns.cuh"
#include "cuda/rows/row_order.cuh"
#include "cuda/runtime/device.cuh"
#include "cuda/runtime/warp.cuh"

namespace fastnce::cuda {

namespace {

constexpr int kMostThreads = 256;
constexpr int kAtOnce = 8;  // loads that a thread issues before it uses the first
static_assert(kPieceEntries % kAtOnce == 0);

// What is added to a row, and where the sum goes. In shared memory: the same for all columns.
struct PieceEntry {
  std::int64_t from;  // where the row begins, in bytes: of `inputs` or of `weight_parts`
  std::int64_t to;    // likewise: of `grad_weights` or of `row_parts`
  float factor;
  bool of_inputs;  // what `from` is in
  bool ends;       // the sum is to be stored: the row or the piece ends
  bool whole;      // `to` the gradients: the sum is all of the row
};

// Where a row begins, in bytes.
FASTNCE_DEVICE std::int64_t row_bytes(std::int64_t row, std::int64_t pitch, DType dtype) {
  return row_offset(row, pitch) * element_bytes(dtype);
}

FASTNCE_DEVICE float start_of_sums(const RowSummary& summary) {
  return summary.has_bad_sample ? __builtin_nanf("") : 0.0f;
}

// One warp, a lane for each entry, writes what needs no column: the entries, ids, and gradients of biases. Loads come
// in two rounds, positions and then values, and have no branches: lanes without an entry repeat the last one.
FASTNCE_DEVICE void enter_piece(const RowsArguments& args, const RowSummary& summary, PieceEntry* piece) {
  const RowOrder& order = args.order;
  const std::int64_t entries = order.entries();
  const std::int64_t first = block_x() * kPieceEntries;
  const std::int64_t own = first + thread_index();
  const std::int64_t at = own < entries ? own : entries - 1;
  const std::int64_t id = class_of(order.sorted[at]);
  const std::int64_t e = number_of(order.sorted[at]);
  const std::int64_t before = class_of(order.sorted[at > 0 ? at - 1 : 0]);
  const std::int64_t after = class_of(order.sorted[at + 1 < entries ? at + 1 : at]);
  const std::int64_t before_piece = class_of(order.sorted[first > 0 ? first - 1 : 0]);
  const std::int64_t row = static_cast<std::int64_t>(order.rows_so_far[at]) - 1;

  const bool is_label = e < order.num_labels;
  const float gradient = *(is_label ? args.true_grad + e : args.bias_sums + (e - order.num_labels));
  const bool valid = own < summary.valid_entries;
  const bool starts_row = valid && (own == 0 || before != id);
  const bool ends_row = valid && (own + 1 == entries || after != id);
  const bool ends_here = ends_row || (valid && thread_index() == kPieceEntries - 1);
  const bool began_before = first > 0 && before_piece == id;
  const bool whole = ends_row && !began_before;
  const std::int64_t part = 2 * block_x() + (began_before ? 0 : 1);

  const bool has_example = is_label || order.has_groups();  // whose inputs it adds
  const std::int64_t sampled = e - order.num_labels;
  const std::int64_t example = is_label             ? order.targets.example_of(e)
                               : order.has_groups() ? order.example_of_pair(sampled)
                                                    : 0;
  const std::int64_t from = has_example ? row_bytes(example, args.inputs.stride, args.inputs.dtype)
                                        : row_bytes(sampled, args.weight_pitch, DType::kFloat32);
  // An entry without a class may have no example. It reads what is there if the piece's first entry has a class; if
  // that has none, nothing is read.
  const bool first_has_example = number_of(order.sorted[first]) < order.num_labels || order.has_groups();
  PieceEntry entry{
      .from = valid ? from : 0,
      .to = whole ? row_bytes(row, args.dim, args.grad_weights_dtype) : row_bytes(part, args.dim, DType::kFloat32),
      .factor = (has_example ? gradient : 1.0f) * args.input_scale,
      .of_inputs = valid ? has_example : first_has_example,
      .ends = ends_here,
      .whole = whole};
  piece[thread_index()] = entry;

  float bias = gradient;  // then the sum over the row's entries up to this one
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const float sum = shuffle_up(bias, distance);
    const std::int64_t of_row = shuffle_up(row, distance);
    if (thread_index() >= distance && of_row == row) bias += sum;
  }
  bias += start_of_sums(summary);
  if (ends_here && args.grad_biases != nullptr) {
    if (whole) {
      store_as(args.grad_biases, args.grad_biases_dtype, row, bias);
    } else {
      args.bias_parts[part] = bias;
    }
  }
  if (starts_row) args.row_ids[row] = id;
  if (own >= summary.rows && own < order.room) {  // a row that is left over
    args.row_ids[own] = summary.last_id;
    if (args.grad_biases != nullptr) store_as(args.grad_biases, args.grad_biases_dtype, own, start_of_sums(summary));
  }
}

template <int kColumns>
FASTNCE_KERNEL(kMostThreads, 2)
reduce_rows_kernel(FASTNCE_ARGUMENTS RowsArguments args) {
  auto* const piece = reinterpret_cast<PieceEntry*>(shared_memory());
  const RowSummary summary = *args.order.summary;
  if (thread_index() < kWarp) enter_piece(args, summary, piece);
  if (args.grad_weights == nullptr) return;
  sync_block();
  const std::int64_t first = block_x() * kPieceEntries;
  const std::int64_t end = first + kPieceEntries < args.order.entries() ? first + kPieceEntries : args.order.entries();
  const std::int64_t end_of_room = end < args.order.room ? end : args.order.room;
  const int used = static_cast<int>((summary.valid_entries < end ? summary.valid_entries : end) - first);
  const float start = start_of_sums(summary);
  const auto* const inputs = static_cast<const char*>(args.inputs.data);
  const auto* const weight_sums = reinterpret_cast<const char*>(args.weight_parts);
  auto* const gradients = static_cast<char*>(args.grad_weights);
  auto* const parts = reinterpret_cast<char*>(args.row_parts);
  for (std::int64_t d = thread_index() * kColumns; d < args.dim; d += block_threads() * kColumns) {
    float sum[kColumns];
    const auto begin_sum = [&] {
#pragma unroll
      for (int c = 0; c < kColumns; ++c) sum[c] = start;
    };
    begin_sum();
#pragma unroll 1
    for (int i = 0; i < used; i += kAtOnce) {
      RawColumns<kColumns> raw[kAtOnce];
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        const PieceEntry& entry = piece[i + k];
        load_columns((entry.of_inputs ? inputs : weight_sums) + entry.from,
                     entry.of_inputs ? args.inputs.dtype : DType::kFloat32, d, raw[k]);
      }
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        const PieceEntry& entry = piece[i + k];
        float value[kColumns];
        convert_columns(raw[k], entry.of_inputs ? args.inputs.dtype : DType::kFloat32, value);
#pragma unroll
        for (int c = 0; c < kColumns; ++c) sum[c] += entry.factor * value[c];
        if (!entry.ends) continue;
        store_columns((entry.whole ? gradients : parts) + entry.to,
                      entry.whole ? args.grad_weights_dtype : DType::kFloat32, d, sum);
        begin_sum();
      }
    }
    begin_sum();
    for (std::int64_t row = summary.rows > first ? summary.rows : first; row < end_of_room; ++row) {  // left over
      store_columns(gradients + row_bytes(row, args.dim, args.grad_weights_dtype), args.grad_weights_dtype, d, sum);
    }
  }
}

// Adds the columns from `d` on of float32 rows, in order; row_at(i) is where row i begins.
template <int kColumns, class RowAt>
FASTNCE_DEVICE void add_rows(int count, const RowAt& row_at, std::int64_t d, float (&sum)[kColumns]) {
#pragma unroll 1
  for (int i = 0; i < count; i += kAtOnce) {
    RawColumns<kColumns> raw[kAtOnce] = {};
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      if (i + k < count) load_columns(row_at(i + k), DType::kFloat32, d, raw[k]);
    }
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      float value[kColumns];
      convert_columns(raw[k], DType::kFloat32, value);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) sum[c] += value[c];
    }
  }
}

template <int kColumns>
FASTNCE_KERNEL(kMostThreads, 2)
join_rows_kernel(FASTNCE_ARGUMENTS RowsArguments args) {
  const RowOrder& order = args.order;
  const std::int64_t entries = order.entries();
  const std::int64_t first = block_x() * kPieceEntries;
  const std::int64_t next = first + kPieceEntries;
  if (next >= entries) return;
  const std::int64_t id = class_of(order.sorted[next - 1]);
  const std::int64_t before = class_of(order.sorted[first > 0 ? first - 1 : 0]);
  const std::int64_t row = static_cast<std::int64_t>(order.rows_so_far[next - 1]) - 1;
  if (class_of(order.sorted[next]) != id || id >= order.num_classes || (first > 0 && before == id)) return;
  int followers = 0;  // pieces that the row goes on in
  const int lane = thread_index() % kWarp;
  for (int found = kWarp; found == kWarp; followers += found) {
    const std::int64_t at = next + (followers + lane) * kPieceEntries;
    found = sum_over_warp(at < entries && class_of(order.sorted[at]) == id ? 1 : 0);
  }
  const std::int64_t tail = 2 * block_x() + 1;  // its own part; those of the followers are tail + 1, tail + 3 ..
  if (args.grad_biases != nullptr && thread_index() < kWarp) {
    float sum = lane == 0 ? args.bias_parts[tail] : 0.0f;
#pragma unroll 1
    for (int i = lane; i < followers; i += kWarp) sum += args.bias_parts[tail + 1 + 2 * i];
    sum = sum_over_warp(sum);
    if (lane == 0) store_as(args.grad_biases, args.grad_biases_dtype, row, sum);
  }
  if (args.grad_weights == nullptr) return;
  const auto* const parts = reinterpret_cast<const char*>(args.row_parts);
  const auto part_at = [&](int i) {
    return parts + row_bytes(i == 0 ? tail : tail + 2 * i - 1, args.dim, DType::kFloat32);
  };
  for (std::int64_t d = thread_index() * kColumns; d < args.dim; d += block_threads() * kColumns) {
    float sum[kColumns] = {};
    add_rows(followers + 1, part_at, d, sum);
    store_columns(static_cast<char*>(args.grad_weights) + row_bytes(row, args.dim, args.grad_weights_dtype),
                  args.grad_weights_dtype, d, sum);
  }
}

// Adds the parts of the products' sums, four elements a thread. In reduce_rows the few threads of a row would wait for
// several times as many loads.
FASTNCE_KERNEL(kMostThreads, 2) add_weight_parts_kernel(FASTNCE_ARGUMENTS RowsArguments args) {
  const std::int64_t at = (block_x() * kMostThreads + thread_index()) * 4;
  if (at >= args.weight_elements()) return;
  float sum[4] = {};
  const auto* const parts = reinterpret_cast<const char*>(args.weight_parts);
  const auto part_at = [&](int i) { return parts + row_bytes(i, args.weight_part, DType::kFloat32); };
  add_rows(static_cast<int>(args.weight_part_count), part_at, at, sum);
  store_columns(args.weight_parts, DType::kFloat32, at, sum);
}

// Whether rows can be read and written four columns at a time.
bool in_fours(const RowsArguments& args) {
  const auto aligned = [](const void* data, DType dtype) {
    return reinterpret_cast<std::uintptr_t>(data) % static_cast<std::uintptr_t>(4 * element_bytes(dtype)) == 0;
  };
  return args.dim % 4 == 0 && args.inputs.stride % 4 == 0 && aligned(args.inputs.data, args.inputs.dtype) &&
         aligned(args.grad_weights, args.grad_weights_dtype);
}

template <int kColumns>
void queue_sums(const RowsArguments& args, const Stream& stream) {
  const std::int64_t columns = args.grad_weights != nullptr ? ceiling(args.dim, kColumns) : 0;
  const auto threads =
      static_cast<int>(std::clamp<std::int64_t>(padded(columns, kWarpThreads), kWarpThreads, kMostThreads));
  const Grid grid{.x = args.pieces()};
  launch(reduce_rows_kernel<kColumns>, grid, threads, static_cast<int>(kPieceEntries * sizeof(PieceEntry)), stream,
         args);
  launch(join_rows_kernel<kColumns>, grid, threads, 0, stream, args);
}

}  // namespace

void queue_row_sums(const RowsArguments& args, const Stream& stream) {
  if (args.grad_weights != nullptr && args.weight_part_count > 1) {
    const std::int64_t blocks = ceiling(args.weight_elements(), 4 * kMostThreads);
    launch(add_weight_parts_kernel, {.x = blocks}, kMostThreads, 0, stream, args);
  }
  in_fours(args) ? queue_sums<4>(args, stream) : queue_sums<1>(args, stream);
}

}  // namespace fastnce::cuda
