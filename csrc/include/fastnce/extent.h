// The memory of an array: where results must not lie.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "fastnce/types.h"

namespace fastnce {

// From the first byte of an array to one after its last.
struct Extent {
  const std::byte* begin = nullptr;
  const std::byte* end = nullptr;

  Extent() = default;
  Extent(const void* data, std::int64_t rows, std::int64_t row_stride, std::int64_t columns, DType dtype)
      : begin(static_cast<const std::byte*>(data)), end(begin) {
    if (rows == 0 || columns == 0) return;
    const std::int64_t size = element_bytes(dtype), last = (rows - 1) * row_stride * size;
    begin += std::min<std::int64_t>(last, 0);
    end += std::max<std::int64_t>(last, 0) + columns * size;
  }
  bool overlaps(const Extent& other) const { return begin < other.end && other.begin < end; }
};

inline Extent extent_of(const Shard& shard, std::int64_t columns, DType dtype) {
  return {shard.data, shard.rows, shard.row_stride, columns, dtype};
}

}  // namespace fastnce
