// Ids out of range: kernels skip them, do not stop, and record them for check().
#pragma once

#include <cstdint>
#include <limits>

#include "cuda/runtime/device.cuh"
#include "cuda/runtime/ids.h"
#include "cuda/runtime/runtime.h"

namespace fastnce::cuda {

enum class IdArgument : std::int64_t { kLabels, kSampled };

// An id that no sampled class has, in range or not.
inline constexpr std::int64_t kNoClass = std::numeric_limits<std::int64_t>::min();

FASTNCE_DEVICE bool is_valid_id(std::int64_t id, std::int64_t num_classes) {
  return static_cast<std::uint64_t>(id) < static_cast<std::uint64_t>(num_classes);
}

FASTNCE_DEVICE bool is_padding(const Padding& padding, std::int64_t label) {
  return padding.given && label == padding.id;
}

// Whether ids[index], which is not padding, is in range; if not, that is recorded.
FASTNCE_DEVICE bool check_id(runtime::FaultRecord* faults, IdArgument argument, std::int64_t index, std::int64_t id,
                             std::int64_t columns, std::int64_t num_classes, const Padding& padding) {
  if (is_valid_id(id, num_classes)) return true;
  if (atomic_add(&faults->count, 1) == 0) {
    faults->argument = static_cast<std::int64_t>(argument);
    faults->index = index;
    faults->value = id;
    faults->columns = columns;
    faults->num_classes = num_classes;
    faults->has_padding = padding.given;
    faults->padding = padding.id;
  }
  return false;
}

}  // namespace fastnce::cuda
