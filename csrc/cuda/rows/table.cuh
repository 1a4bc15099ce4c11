// Class tables and rows of them as kernels read them: element types are known at run time only.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/runtime/device.cuh"
#include "cuda/runtime/limits.h"
#include "fastnce/types.h"

namespace fastnce::cuda {

// A row of numbers.
struct Row {
  const void* data;
  DType dtype;
};

// Rows that lie at equal distances.
struct Rows {
  const void* data;
  std::int64_t stride;  // in elements
  DType dtype;

  FASTNCE_DEVICE Row operator[](std::int64_t row) const {
    return {static_cast<const char*>(data) + row_offset(row, stride) * element_bytes(dtype), dtype};
  }
};

// A Table whose shards travel with the kernel's arguments.
struct DeviceTable {
  Shard shards[kMostShards];
  std::int64_t num_shards;
  std::int64_t rows;
  Partition partition;
  DType dtype;

  DeviceTable() = default;
  DeviceTable(const Table& table, DType element_type)
      : num_shards(std::ssize(table.shards)), rows(table.rows()), partition(table.partition), dtype(element_type) {
    std::copy(table.shards.begin(), table.shards.end(), shards);
  }

  FASTNCE_DEVICE Row row(std::int64_t id) const {
    const ShardAddress at = locate_row(id, rows, num_shards, partition);
    const Shard& shard = shards[at.shard];
    return Rows{shard.data, shard.row_stride, dtype}[at.row];
  }
};

// Writes element i of an array, rounded once.
FASTNCE_DEVICE void store_as(void* to, DType dtype, std::int64_t i, float value) {
  if (dtype == DType::kFloat32) {
    static_cast<float*>(to)[i] = value;
  } else {
    static_cast<std::uint16_t*>(to)[i] =
        dtype == DType::kBFloat16 ? static_cast<std::uint16_t>(to_bfloat16_pair(value, 0.0f)) : to_float16(value);
  }
}

}  // namespace fastnce::cuda
