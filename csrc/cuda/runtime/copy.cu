#include "cuda/runtime/copy.h"

#include <cstdint>

#include "cuda/runtime/device.cuh"
#include "cuda/runtime/limits.h"

namespace fastnce::cuda {

namespace {

constexpr int kThreads = 256;

struct CopyRowsArguments {
  RowArray from;
  void* to;
};

// A thread per element: what is joined is small beside the products of a loss.
template <class Word>
FASTNCE_KERNEL(kThreads, 1)
copy_rows_kernel(FASTNCE_ARGUMENTS CopyRowsArguments args) {
  const RowArray& from = args.from;
  const std::int64_t i = block_x() * kThreads + thread_index();
  if (i >= from.rows * from.columns) return;
  static_cast<Word*>(args.to)[i] =
      static_cast<const Word*>(from.data)[i / from.columns * from.row_stride + i % from.columns];
}

struct FillArguments {
  float value;
  std::int64_t count;
  float* to;
};

FASTNCE_KERNEL(kThreads, 1) fill_kernel(FASTNCE_ARGUMENTS FillArguments args) {
  const std::int64_t i = block_x() * kThreads + thread_index();
  if (i < args.count) args.to[i] = args.value;
}

}  // namespace

void queue_fill(float value, std::int64_t count, float* to, const Stream& stream) {
  launch(fill_kernel, {.x = ceiling(count, kThreads)}, kThreads, 0, stream, FillArguments{value, count, to});
}

void queue_copy_rows(const RowArray& rows, void* to, const Stream& stream) {
  const auto kernel = rows.element_bytes == 2 ? copy_rows_kernel<std::uint16_t> : copy_rows_kernel<std::uint32_t>;
  launch(kernel, {.x = ceiling(rows.rows * rows.columns, kThreads)}, kThreads, 0, stream, CopyRowsArguments{rows, to});
}

}  // namespace fastnce::cuda
