// Ids out of range and wrong offsets: kernels skip them, do not stop, and record them for check().
#pragma once

#include <cstdint>
#include <limits>

#include "cuda/runtime/device.cuh"
#include "cuda/runtime/ids.h"
#include "cuda/runtime/runtime.h"

namespace fastnce::cuda {

enum class IdArgument : std::int64_t {
  kLabels,
  kSampled,
  kLabelValues,
  kLabelOffsets,
  kExcludeValues,
  kExcludeOffsets,
  kScoreOffsets,
  kRowIds
};

// An id that no sampled class has, in range or not. As padding it is nobody's that could be named.
inline constexpr std::int64_t kNoClass = std::numeric_limits<std::int64_t>::min();

FASTNCE_DEVICE bool is_valid_id(std::int64_t id, std::int64_t num_classes) {
  return static_cast<std::uint64_t>(id) < static_cast<std::uint64_t>(num_classes);
}

FASTNCE_DEVICE bool is_padding(const Padding& padding, std::int64_t label) {
  return padding.given && label == padding.id;
}

FASTNCE_DEVICE void record_fault(runtime::FaultRecord* faults, IdArgument argument, std::int64_t index,
                                 std::int64_t value, std::int64_t columns, std::int64_t num_classes,
                                 const Padding& padding = {}) {
  if (atomic_add(&faults->count, 1) != 0) return;
  faults->argument = static_cast<std::int64_t>(argument);
  faults->index = index;
  faults->value = value;
  faults->columns = columns;
  faults->num_classes = num_classes;
  faults->has_padding = padding.given && padding.id != kNoClass;
  faults->padding = padding.id;
}

}  // namespace fastnce::cuda
