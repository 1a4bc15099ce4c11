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

}  // namespace

void queue_copy_rows(const RowArray& rows, void* to, const Stream& stream) {
  const auto kernel = rows.element_bytes == 2 ? copy_rows_kernel<std::uint16_t> : copy_rows_kernel<std::uint32_t>;
  launch(kernel, {.x = ceiling(rows.rows * rows.columns, kThreads)}, kThreads, 0, stream, CopyRowsArguments{rows, to});
}

}  // namespace fastnce::cuda
