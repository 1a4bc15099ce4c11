// Few entries, as in most training steps, are ordered by one block in one launch; many by CUB's device-wide sort.
#include "cuda/rows/row_order.h"

#include "cuda/gemm/geometry.h"
#include "cuda/rows/block_sort.cuh"
#include "cuda/rows/row_order.cuh"
#include "cuda/rows/row_sort.h"
#include "cuda/runtime/ids.cuh"
#include "cuda/runtime/warp.cuh"

namespace fastnce::cuda {

namespace {

constexpr int kThreads = 256;

FASTNCE_DEVICE RowEntry entry_of(const RowOrder& order, std::int64_t e) {
  const bool is_label = e < order.num_labels;
  const std::int64_t sampled = e - order.num_labels;
  const std::int64_t id =
      is_label ? order.targets.ids[e] : order.sampled[order.has_groups() ? order.sample_of_pair(sampled) : sampled];
  const bool is_class = !is_label || order.targets.is_class(e, id);
  const bool has_class = is_valid_id(id, order.num_classes) && is_class;
  const std::int64_t of_class = has_class ? id : order.num_classes;
  return static_cast<RowEntry>(of_class) << kEntryBits | static_cast<RowEntry>(e);
}

// By one thread, from the sorted entries.
FASTNCE_DEVICE void summarise(const RowOrder& order, const RowEntry* sorted, std::int64_t rows) {
  const std::int64_t entries = order.entries();
  std::int64_t low = 0;  // where the entries without a class begin
  std::int64_t high = entries;
  while (low < high) {
    const std::int64_t middle = (low + high) / 2;
    if (class_of(sorted[middle]) < order.num_classes) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  *order.summary = {.rows = rows,
                    .valid_entries = low,
                    .last_id = low > 0 ? class_of(sorted[low - 1]) : 0,
                    .has_bad_sample = low < entries && number_of(sorted[entries - 1]) >= order.num_labels};
  *order.row_count = rows;
}

template <int kBlockThreads, int kItems>
FASTNCE_KERNEL(kBlockThreads, 1)
order_in_one_block_kernel(FASTNCE_ARGUMENTS RowOrder order) {
  using Sort = BlockSort<kBlockThreads, kItems>;
  auto* const entries = reinterpret_cast<RowEntry*>(shared_memory());
  auto* const warp_sums = reinterpret_cast<int*>(shared_memory() + Sort::kSharedBytes);
  const auto count = static_cast<int>(order.entries());
  RowEntry own[kItems];
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    const int e = i * kBlockThreads + thread_index();
    own[i] = e < count ? entry_of(order, e) : ~RowEntry{0};  // behind all others
  }
#pragma unroll
  for (int i = 0; i < kItems; ++i) entries[i * kBlockThreads + thread_index()] = own[i];
  Sort::sort(entries, kEntryBits, kEntryBits + order.class_bits);

  // A warp numbers kItems * 32 entries in a row, a lane every 32nd, so that neighbours access neighbours.
  const RowStarts starts_row{entries, order.num_classes};
  const int lane = thread_index() % kWarp;
  const int first = thread_index() / kWarp * kItems * kWarp + lane;
  bool starts[kItems];
  int own_starts = 0;
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    const int at = first + i * kWarp;
    starts[i] = at < count && starts_row(at) != 0;
    own_starts += starts[i] ? 1 : 0;
  }
  const BlockSum sum = sum_over_block<kBlockThreads>(own_starts, warp_sums);
  if (thread_index() == 0) summarise(order, entries, sum.total);
  int rows = shuffle(sum.before, 0);
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    const int at = first + i * kWarp;
    rows += scan_over_warp(starts[i] ? 1 : 0);
    if (at < count) {
      order.sorted[at] = entries[at];
      order.rows_so_far[at] = static_cast<std::uint32_t>(rows);
    }
    rows = shuffle(rows, kWarp - 1);
  }
}

template <int kBlockThreads, int kItems>
void order_in_one_block(const RowOrder& order, const Stream& stream) {
  constexpr int kSharedBytes =
      BlockSort<kBlockThreads, kItems>::kSharedBytes + kBlockThreads / kWarp * static_cast<int>(sizeof(int));
  static_assert(kSharedBytes <= kMostSharedBytes);
  launch(order_in_one_block_kernel<kBlockThreads, kItems>, {.x = 1}, kBlockThreads, kSharedBytes, stream, order);
}

FASTNCE_KERNEL(kThreads, 2) enter_rows_kernel(FASTNCE_ARGUMENTS RowOrder order) {
  const std::int64_t e = block_x() * kThreads + thread_index();
  if (e < order.entries()) order.unsorted[e] = entry_of(order, e);
}

FASTNCE_KERNEL(kWarp, 1) summarise_kernel(FASTNCE_ARGUMENTS RowOrder order) {
  if (thread_index() == 0) summarise(order, order.sorted, order.rows_so_far[order.entries() - 1]);
}

}  // namespace

void queue_row_order(const RowOrder& order, const Stream& stream) {
  const std::int64_t entries = order.entries();
  if (entries == 0) return runtime::fill_bytes(order.row_count, 0, sizeof *order.row_count, stream);
  if (entries <= kFewEntries) return order_in_one_block<256, kFewEntries / 256>(order, stream);
  if (entries <= 1024 * 6) return order_in_one_block<1024, 6>(order, stream);
  if (!has_many_entries(entries)) return order_in_one_block<1024, kMostInOneBlock / 1024>(order, stream);
  launch(enter_rows_kernel, {.x = ceiling(entries, kThreads)}, kThreads, 0, stream, order);
  sort_entries(order.unsorted, order.sorted, entries, kEntryBits, kEntryBits + order.class_bits, order.sort_scratch,
               order.sort_scratch_bytes, stream);
  number_rows(order.sorted, order.num_classes, order.rows_so_far, entries, order.sort_scratch, order.sort_scratch_bytes,
              stream);
  launch(summarise_kernel, {.x = 1}, kWarp, 0, stream, order);
}

}  // namespace fastnce::cuda
