// A class table as kernels read it: where a row lies.
#pragma once

#include <cstdint>

#include "fastnce/types.h"

namespace fastnce::cpu {

// A class table with its row look-up.
struct TableView {
  const Shard* shards;
  std::int64_t num_shards;  // 0: no table
  std::int64_t rows;
  Partition partition;
  DType dtype;

  [[gnu::always_inline]] const void* row(std::int64_t id) const {
    const ShardAddress at = locate_row(id, rows, num_shards, partition);
    const Shard& shard = shards[at.shard];
    return static_cast<const char*>(shard.data) + at.row * shard.row_stride * element_bytes(dtype);
  }
};

inline TableView view(const Table& table, DType dtype) {
  return {table.shards.data(), static_cast<std::int64_t>(table.shards.size()), table.rows(), table.partition, dtype};
}

// The rows of a table one after the other: what the address of a row of a single shard depends on is at hand.
struct RowAddresses {
  const TableView& table;
  const char* start;    // null: several shards
  std::int64_t stride;  // in bytes

  [[gnu::always_inline]] explicit RowAddresses(const TableView& view) : table(view), start(nullptr), stride(0) {
    if (view.num_shards != 1) return;
    start = static_cast<const char*>(view.shards[0].data);
    stride = view.shards[0].row_stride * element_bytes(view.dtype);
  }
  [[gnu::always_inline]] const void* operator[](std::int64_t id) const {
    return start != nullptr ? start + id * stride : table.row(id);
  }
};

}  // namespace fastnce::cpu
