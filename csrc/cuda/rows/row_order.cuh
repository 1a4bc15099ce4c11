// Sorted row entries as kernels read them.
#pragma once

#include "cuda/rows/row_order.h"
#include "cuda/runtime/device.cuh"

namespace fastnce::cuda {

FASTNCE_DEVICE std::int64_t class_of(RowEntry entry) { return static_cast<std::int64_t>(entry >> kEntryBits); }
FASTNCE_DEVICE std::int64_t number_of(RowEntry entry) {
  return static_cast<std::int64_t>(entry & ((RowEntry{1} << kEntryBits) - 1));
}

// 1 where a row starts among the sorted entries.
struct RowStarts {
  const RowEntry* sorted;
  std::int64_t num_classes;

  FASTNCE_DEVICE std::uint32_t operator()(std::int64_t at) const {
    const std::int64_t own = class_of(sorted[at]);
    return own < num_classes && (at == 0 || class_of(sorted[at - 1]) != own) ? 1 : 0;
  }
};

}  // namespace fastnce::cuda
