// True classes, and lists of classes for each example, as kernels read them.
#pragma once

#include <cstdint>

#include "cuda/runtime/device.cuh"
#include "cuda/runtime/ids.cuh"

namespace fastnce::cuda {

// Lists as in ClassLists. The offsets are the caller's, read by nobody before, and may be wrong: then the examples from
// the first such offset on have no lists, so that nothing beyond the end is read and no entry belongs to two examples.
struct DeviceLists {
  const std::int64_t* offsets = nullptr;    // [B + 1]; null: no lists
  std::int64_t listed = 0;                  // n; values may follow the last list
  const AtomicWord* first_fault = nullptr;  // the first wrong offset (cuda/rows/lists.h); all ones: none is

  FASTNCE_DEVICE std::int64_t begin(std::int64_t b) const {
    const AtomicWord fault = *first_fault;
    if (fault == 0) return 0;
    return offsets[static_cast<AtomicWord>(b) < fault ? b : static_cast<std::int64_t>(fault) - 1];
  }
  // Whether the list of example b is not known.
  FASTNCE_DEVICE bool is_broken(std::int64_t b) const {
    return offsets != nullptr && static_cast<AtomicWord>(b) + 1 >= *first_fault;
  }
};

// The true classes: entry e has class ids[e].
struct DeviceTargets {
  const std::int64_t* ids = nullptr;  // y [B, T], or [n] beside lists
  Padding padding = {};
  std::int64_t per_example = 0;  // T; not read beside lists
  DeviceLists lists;
  const std::int32_t* example = nullptr;  // [n]: of each entry, or kNone; null: no lists

  static constexpr std::int32_t kNone = -1;

  constexpr bool are_lists() const { return lists.offsets != nullptr; }
  // Entries begin(b) to begin(b + 1) - 1 are of example b.
  FASTNCE_DEVICE std::int64_t begin(std::int64_t b) const {
    return are_lists() ? lists.begin(b) : row_offset(b, per_example);
  }
  FASTNCE_DEVICE std::int64_t count(std::int64_t b) const {
    return are_lists() ? lists.begin(b + 1) - lists.begin(b) : per_example;
  }
  // In 32 bits: there are at most 2^28 entries.
  FASTNCE_DEVICE std::int32_t example_of(std::int64_t e) const {
    if (are_lists()) return example[e];
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(e) / static_cast<std::uint32_t>(per_example));
  }
  // Whether entry e, whose id was read, is a class of an example, in range or not.
  FASTNCE_DEVICE bool is_class(std::int64_t e, std::int64_t id) const {
    return !is_padding(padding, id) && (!are_lists() || example[e] != kNone);
  }
};

}  // namespace fastnce::cuda
