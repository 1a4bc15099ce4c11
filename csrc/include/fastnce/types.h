// The vocabulary of the public API: element types, class tables, lists of classes. No Python, no CUDA.
//
// Shape letters, project-wide: B examples, D width, V classes, S sampled classes, T true classes per example.
#pragma once

#include <cstdint>
#include <span>

namespace fastnce {

enum class DType : std::uint8_t { kFloat32, kFloat64, kFloat16, kBFloat16 };

[[gnu::always_inline]] constexpr std::int64_t element_bytes(DType dtype) {
  return dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : 2;
}

// Precision of float32 matrix products, with the names of torch.set_float32_matmul_precision. A level is a minimum; its
// meaning per instruction set is in docs/precision.md. float64 is always float64.
enum class Precision : std::uint8_t {
  kHighest,  // no larger an error than plain float32 arithmetic's
  kHigh,     // about 1e-5
  kMedium,   // bfloat16 products, float32 sums: about 1e-2
};

// A block of rows of a class table: row r starts at data + r * row_stride (in elements; may be negative or 0),
// its elements are contiguous.
struct Shard {
  const void* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t row_stride = 0;
};

// How a table of N rows is laid over P shards, in the words of tf.nn.embedding_lookup.
enum class Partition : std::uint8_t {
  kDiv,  // consecutive blocks; the first N mod P shards hold one row more
  kMod,  // row id lives in shard id mod P
};

struct ShardAddress {
  std::int64_t shard;
  std::int64_t row;
};

// A [V, D] class table (weights) or [V] (biases, read as [V, 1]): one or more shards of one element type.
struct Table {
  std::span<const Shard> shards;
  Partition partition = Partition::kDiv;

  std::int64_t rows() const {
    std::int64_t total = 0;
    for (const Shard& shard : shards) total += shard.rows;
    return total;
  }
};

// A list of classes for each example: example b has ids[offsets[b]] .. ids[offsets[b + 1] - 1].
struct ClassLists {
  const std::int64_t* ids = nullptr;
  const std::int64_t* offsets = nullptr;  // [B + 1], from 0, never falling; null: no lists
  std::int64_t listed = 0;                // the length of `ids`; read on a CUDA device alone
};

// Where row `id` of a table of `rows` rows lies among `num_shards` shards. Always inlined: kernels built for wider
// instruction sets use it too, and must not leave a copy of it for the linker to share.
[[gnu::always_inline]] constexpr ShardAddress locate_row(std::int64_t id, std::int64_t rows, std::int64_t num_shards,
                                                         Partition partition) {
  if (num_shards == 1) return {0, id};
  if (partition == Partition::kMod) return {id % num_shards, id / num_shards};
  const std::int64_t small = rows / num_shards;
  const std::int64_t extra = rows % num_shards;  // shards 0 .. extra - 1 hold small + 1 rows
  const std::int64_t in_large = extra * (small + 1);
  if (id < in_large) return {id / (small + 1), id % (small + 1)};
  return {extra + (id - in_large) / small, (id - in_large) % small};
}

// How many of `rows` rows shard `shard` must hold.
constexpr std::int64_t shard_rows(std::int64_t shard, std::int64_t rows, std::int64_t num_shards) {
  return rows / num_shards + (shard < rows % num_shards ? 1 : 0);  // the same count for "div" and "mod"
}

}  // namespace fastnce
