// All entries are sorted by class, and the sorted sequence is cut into pieces of equal length, one block each,
// regardless of row boundaries, because the most frequent class can hold a tenth of all labels. A row within one piece
// is finished there. A row that spans pieces leaves one sum per piece; the block of its first piece adds them. All sums
// have a fixed order, so results do not change from run to run.
#include "cuda/rows.h"

#include <bit>

#include "cuda/device.cuh"
#include "cuda/geometry.h"
#include "cuda/ids.cuh"

namespace fastnce::cuda {

namespace {

constexpr int kThreads = 256;

FASTNCE_KERNEL(kThreads, 2) make_keys_kernel(FASTNCE_ARGUMENTS RowsArguments args) {
  const std::int64_t e = block_x() * kThreads + thread_index();
  if (e >= args.entries()) return;
  const std::int64_t id = e < args.num_labels ? args.labels[e] : args.sampled[e - args.num_labels];
  // Ids out of range come last and belong to no row.
  args.sort.keys[0][e] = static_cast<std::uint64_t>(is_valid_id(id, args.num_classes) ? id : args.num_classes);
  args.sort.values[0][e] = static_cast<std::uint32_t>(e);
}

FASTNCE_KERNEL(kThreads, 2) mark_starts_kernel(FASTNCE_ARGUMENTS RowsArguments args) {
  const std::int64_t at = block_x() * kThreads + thread_index();
  if (at >= args.entries()) return;
  const std::uint64_t* const keys = args.sort.keys[1];
  const bool valid = keys[at] < static_cast<std::uint64_t>(args.num_classes);
  args.row_starts[at] = valid && (at == 0 || keys[at] != keys[at - 1]) ? 1 : 0;
}

// A sampled class out of range belongs to no row, so that only this tells: it makes all gradients NaN. Ids out of range
// are the last entries, and among these labels come before samples.
FASTNCE_DEVICE bool has_bad_sample(const RowsArguments& args) {
  const std::int64_t last = args.entries() - 1;
  return args.sort.keys[1][last] >= static_cast<std::uint64_t>(args.num_classes) &&
         args.sort.values[1][last] >= static_cast<std::uint64_t>(args.num_labels);
}

// Column `column` of an output row; column D is the bias.
FASTNCE_DEVICE void store_element(const RowsArguments& args, std::int64_t row, std::int64_t column, float sum) {
  const float value = has_bad_sample(args) ? __builtin_nanf("") : sum;
  if (column < args.dim) {
    store_as(args.grad_weights, args.grad_weights_dtype, row * args.dim + column, value);
  } else if (args.grad_biases != nullptr) {
    store_as(args.grad_biases, args.grad_biases_dtype, row, value);
  }
}

FASTNCE_DEVICE std::int64_t first_column(const RowsArguments& args) {
  return args.grad_weights != nullptr ? thread_index() : args.dim + thread_index();
}

// Rows that are left over repeat the last id, with gradients of zero.
FASTNCE_DEVICE void pad_rows(const RowsArguments& args, std::int64_t begin, std::int64_t end, std::int64_t rows) {
  if (end <= rows) return;
  std::int64_t low = 0;  // where the ids out of range begin
  std::int64_t high = args.entries();
  while (low < high) {
    const std::int64_t middle = (low + high) / 2;
    if (args.sort.keys[1][middle] < static_cast<std::uint64_t>(args.num_classes)) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  const std::int64_t last_id = low > 0 ? static_cast<std::int64_t>(args.sort.keys[1][low - 1]) : 0;
  for (std::int64_t row = begin > rows ? begin : rows; row < end; ++row) {
    if (thread_index() == 0) args.row_ids[row] = last_id;
    for (std::int64_t d = first_column(args); d <= args.dim; d += block_threads()) store_element(args, row, d, 0.0f);
  }
}

// Stores the running sum at the end of a row or piece.
enum class Then : int {
  kGoOn,
  kFinish,     // the row began in this piece: it is done
  kLeaveHead,  // the row began in an earlier piece
  kLeaveTail,  // the row goes on in the next piece
};

struct PieceEntry {
  std::int64_t example;  // or -1
  std::int64_t sample;   // or -1
  std::int64_t row;
  float factor;  // of the example's inputs
  Then then;
};

FASTNCE_DEVICE PieceEntry piece_entry(const RowsArguments& args, std::int64_t first, std::int64_t end,
                                      std::int64_t at) {
  const std::uint64_t* const keys = args.sort.keys[1];
  const std::uint64_t key = keys[at];
  const std::int64_t e = args.sort.values[1][at];
  PieceEntry entry{-1, -1, static_cast<std::int64_t>(args.rows_so_far[at]) - 1, 0.0f, Then::kGoOn};
  if (key >= static_cast<std::uint64_t>(args.num_classes)) return entry;
  if (e < args.num_labels) {
    entry.example = e / args.num_true;
    entry.factor = args.true_grad[e];
  } else {
    entry.sample = e - args.num_labels;
  }
  const bool row_ends = at + 1 == args.entries() || keys[at + 1] != key;
  if (!row_ends && at + 1 < end) return entry;
  const bool began_before = first > 0 && keys[first - 1] == key;
  entry.then = began_before ? Then::kLeaveHead : row_ends ? Then::kFinish : Then::kLeaveTail;
  return entry;
}

FASTNCE_DEVICE float contribution(const RowsArguments& args, const PieceEntry& entry, std::int64_t column) {
  if (entry.example >= 0) return column < args.dim ? entry.factor * args.inputs[entry.example][column] : entry.factor;
  if (entry.sample < 0) return 0.0f;
  if (column == args.dim) return args.bias_sums[entry.sample];
  const float* from = args.weight_parts + entry.sample * args.weight_pitch + column;
  float sum = 0.0f;
  for (std::int64_t part = 0; part < args.weight_part_count; ++part) sum += from[part * args.weight_part];
  return sum;
}

FASTNCE_KERNEL(kThreads, 2) reduce_rows_kernel(FASTNCE_ARGUMENTS RowsArguments args) {
  constexpr int kAtOnce = 8;  // loads in flight
  static_assert(kPieceEntries % kAtOnce == 0);
  auto* const piece = reinterpret_cast<PieceEntry*>(shared_memory());
  const std::int64_t first = block_x() * kPieceEntries;
  const std::int64_t end = first + kPieceEntries < args.entries() ? first + kPieceEntries : args.entries();
  const std::int64_t rows = args.rows_so_far[args.entries() - 1];
  for (std::int64_t i = thread_index(); i < kPieceEntries; i += block_threads()) {
    const std::int64_t at = first + i;
    piece[i] = at < end ? piece_entry(args, first, end, at) : PieceEntry{-1, -1, 0, 0.0f, Then::kGoOn};
    if (at < end && args.row_starts[at] != 0)
      args.row_ids[piece[i].row] = static_cast<std::int64_t>(args.sort.keys[1][at]);
  }
  if (block_x() == 0 && thread_index() == 0) *args.row_count = rows;
  sync_block();
  float* const parts = args.row_parts + block_x() * 2 * (args.dim + 1);
  for (std::int64_t d = first_column(args); d <= args.dim; d += block_threads()) {
    float sum = 0.0f;
    for (int i = 0; i < kPieceEntries; i += kAtOnce) {
      float values[kAtOnce];
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) values[k] = contribution(args, piece[i + k], d);
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        sum += values[k];
        const Then then = piece[i + k].then;
        if (then == Then::kGoOn) continue;
        if (then == Then::kFinish) {
          store_element(args, piece[i + k].row, d, sum);
        } else {
          parts[(then == Then::kLeaveHead ? 0 : args.dim + 1) + d] = sum;
        }
        sum = 0.0f;
      }
    }
  }
  pad_rows(args, first, end, rows);
}

FASTNCE_KERNEL(kThreads, 2) join_rows_kernel(FASTNCE_ARGUMENTS RowsArguments args) {
  const std::uint64_t* const keys = args.sort.keys[1];
  const std::int64_t first = block_x() * kPieceEntries;
  const std::int64_t last = first + kPieceEntries - 1;
  if (last + 1 >= args.entries()) return;
  const std::uint64_t key = keys[last];
  const bool goes_on = key < static_cast<std::uint64_t>(args.num_classes) && keys[last + 1] == key;
  if (!goes_on || (first > 0 && keys[first - 1] == key)) return;
  std::int64_t pieces = 1;  // that follow
  for (std::int64_t next = last + 1 + kPieceEntries; next < args.entries() && keys[next] == key;
       next += kPieceEntries) {
    ++pieces;
  }
  const std::int64_t width = args.dim + 1;
  const float* const tail = args.row_parts + (block_x() * 2 + 1) * width;
  const std::int64_t row = static_cast<std::int64_t>(args.rows_so_far[last]) - 1;
  for (std::int64_t d = first_column(args); d <= args.dim; d += block_threads()) {
    float sum = tail[d];
    for (std::int64_t i = 0; i < pieces; ++i) sum += tail[(2 * i + 1) * width + d];
    store_element(args, row, d, sum);
  }
}

}  // namespace

void queue_rows(const RowsArguments& args, const Stream& stream) {
  const std::int64_t entries = args.entries();
  if (entries == 0) return runtime::fill_bytes(args.row_count, 0, sizeof *args.row_count, stream);
  const Grid by_entry{.x = ceiling(entries, kThreads)};
  const int key_bits = std::bit_width(static_cast<std::uint64_t>(args.num_classes));
  launch(make_keys_kernel, by_entry, kThreads, 0, stream, args);
  sort_by_key(args.sort, entries, key_bits, args.sort_scratch, args.sort_scratch_bytes, stream);
  launch(mark_starts_kernel, by_entry, kThreads, 0, stream, args);
  running_sum(args.row_starts, args.rows_so_far, entries, args.sort_scratch, args.sort_scratch_bytes, stream);
  const Grid by_piece{.x = ceiling(entries, kPieceEntries)};
  const int threads = row_threads(args.grad_weights != nullptr ? args.dim : 0);
  launch(reduce_rows_kernel, by_piece, threads, static_cast<int>(kPieceEntries * sizeof(PieceEntry)), stream, args);
  launch(join_rows_kernel, by_piece, threads, 0, stream, args);
}

}  // namespace fastnce::cuda
