#include "cuda/rows/lists.h"

#include "cuda/gemm/geometry.h"
#include "cuda/runtime/runtime.h"

namespace fastnce::cuda {

namespace {

constexpr int kThreads = 256;

// A thread per offset.
FASTNCE_KERNEL(kThreads, 1) check_offsets_kernel(FASTNCE_ARGUMENTS ListsArguments args) {
  const std::int64_t i = block_x() * kThreads + thread_index();
  if (i > args.batch) return;
  const std::int64_t n = args.lists.listed;
  const std::int64_t own = args.lists.offsets[i];
  const std::int64_t least = i > 0 ? args.lists.offsets[i - 1] : 0;
  if (own >= least && own <= n && (i > 0 || own == 0)) return;  // values may follow the last list
  atomic_min(args.first_fault, static_cast<AtomicWord>(i));
  record_fault(args.faults, args.argument, i, own, 0, n);
}

// A thread per entry: a binary search, log2 B loads that wait for each other, once per call.
FASTNCE_KERNEL(kThreads, 1) find_examples_kernel(FASTNCE_ARGUMENTS ListsArguments args) {
  const std::int64_t e = block_x() * kThreads + thread_index();
  if (e >= args.lists.listed) return;
  const AtomicWord fault = *args.first_fault;
  // The last offset that is right; e is within a list if it is below that.
  std::int64_t high = fault > static_cast<AtomicWord>(args.batch) ? args.batch : static_cast<std::int64_t>(fault) - 1;
  if (high < 0 || e >= args.lists.offsets[high]) {
    args.example[e] = DeviceTargets::kNone;
    return;
  }
  std::int64_t low = 0;
  while (high - low > 1) {  // offsets[low] <= e < offsets[high]
    const std::int64_t middle = (low + high) / 2;
    (args.lists.offsets[middle] <= e ? low : high) = middle;
  }
  args.example[e] = static_cast<std::int32_t>(low);
}

}  // namespace

void queue_lists(const ListsArguments& args, const Stream& stream) {
  runtime::fill_bytes(args.first_fault, 0xFF, sizeof *args.first_fault, stream);
  launch(check_offsets_kernel, {.x = ceiling(args.batch + 1, kThreads)}, kThreads, 0, stream, args);
  if (args.example == nullptr) return;
  launch(find_examples_kernel, {.x = ceiling(args.lists.listed, kThreads)}, kThreads, 0, stream, args);
}

}  // namespace fastnce::cuda
