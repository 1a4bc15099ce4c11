// The launch plan of a call: tiles, chunks and blocks, as pure functions of its sizes and the device's, so that they
// can be tested on any machine.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/runtime/limits.h"
#include "cuda/runtime/runtime.h"
#include "fastnce/loss.h"

namespace fastnce::cuda {

// Shared memory of a block on every chip: compute capability 8.6, 8.9 and 12.0 have no more.
inline constexpr int kMostSharedBytes = 99 * 1024;
inline constexpr int kWarpThreads = 32;
inline constexpr int kTileRows = 128;          // of every product's tile
inline constexpr int kSampleColumns = 128;     // of the logits' tiles
inline constexpr int kTileDepth = 32;          // of one slice along k
inline constexpr int kRegisters = 65'536;      // of a multiprocessor
inline constexpr int kReservedShared = 1'024;  // bytes that CUDA takes of shared memory for each block

// The parts of bfloat16 operands. Inputs and weights that are both stored in bfloat16 are exact in one part. Where both
// are stored in float16, one part would lose 3 of their 11 bits: the logits are then products of float16 numbers,
// exact, too. The gradients stay with bfloat16, whose range G needs: its small elements would vanish in float16.
struct Parts {
  int order;             // 1 to 3; parts of G
  int operands;          // of X and W: 1 or `order`
  bool float16 = false;  // the logits' operands
};
inline Parts parts_of(const Scoring& r) {
  const int order = r.precision == Precision::kHighest ? 3 : r.precision == Precision::kHigh ? 2 : 1;
  const auto both_are = [&](DType dtype) {
    return r.weights_dtype.value_or(r.dtype) == dtype && r.inputs_dtype.value_or(r.dtype) == dtype;
  };
  return {order, both_are(DType::kBFloat16) ? 1 : order, order == 1 && both_are(DType::kFloat16)};
}

// How a block computes a tile of a GEMM, and what that takes of a multiprocessor: kernels are compiled from it and
// launches planned with it, so that both know how many blocks run at once.
struct TilePlan {
  int columns;           // of the tile
  int warp_columns;      // of a warp's share, which is 64 rows high
  int parts_a, parts_b;  // of the operands
  int order;
  int registers;  // of a thread, at most: the compiler is held to it

  constexpr int warps_across() const { return columns / warp_columns; }
  constexpr int threads() const { return kTileRows / 64 * warps_across() * kWarpThreads; }
  constexpr int stage_bytes() const { return (kTileRows * parts_a + columns * parts_b) * kTileDepth * 2; }
  // Slices kept in shared memory: as many as let two blocks share a multiprocessor of 228 KiB and one block run where
  // 99 KiB are all (compute capability 8.6, 8.9, 12.0).
  constexpr int stages() const { return std::clamp(96 * 1024 / stage_bytes(), 2, 4); }
  constexpr int shared_bytes() const { return stages() * stage_bytes(); }
  // Blocks for which a multiprocessor has the registers.
  constexpr int blocks() const { return kRegisters / (registers * threads()); }
  // Blocks that share a multiprocessor.
  constexpr int blocks(std::int64_t shared_bytes_in_all) const {
    return static_cast<int>(std::min<std::int64_t>(blocks(), shared_bytes_in_all / (shared_bytes() + kReservedShared)));
  }
};

// Of X W^T. Two blocks share a multiprocessor, so that one multiplies while the other computes its logistic; several
// parts of two operands do not fit the 128 registers that this leaves. The logistic needs registers beside the sums.
constexpr TilePlan logits_plan(Parts parts) {
  return {kSampleColumns, 32, parts.operands, parts.operands, parts.order, parts.operands == 1 ? 128 : 256};
}

// The same with the epilogue of the softmax loss. Above order 1 ptxas 13.0 would spill within 128 registers.
constexpr TilePlan softmax_logits_plan(Parts parts) {
  TilePlan plan = logits_plan(parts);
  if (parts.order > 1) plan.registers = 256;
  return plan;
}

// Of G W and G^T X. Above order 1, several parts of each fragment need registers; narrow tiles of order 1 leave room
// for a third block.
constexpr TilePlan product_plan(int columns, Parts parts) {
  const bool narrow = parts.order > 1 || columns == 64;
  return {columns, narrow ? 32 : 64, parts.order, parts.operands, parts.order, parts.order == 1 && narrow ? 168 : 256};
}

// The batch is processed in equal chunks of examples, with three GEMMs each:
//   logits [chunk, S] -> G, dX [chunk, D] = G W, dW [S, D] += G^T X.
// A chunk's G takes at most half of the L2 cache, so that the two GEMMs that read it hit the cache, and memory stays
// O((S + B) D). If an output has too few tiles to fill the device, its sum over k is split (split-k).
struct Geometry {
  std::int64_t samples;        // S, padded to whole tiles
  std::int64_t dim;            // D, padded likewise
  int dim_columns;             // width of tiles along D: 64 or 128
  std::int64_t chunks;         // of the batch
  std::int64_t chunk_rows;     // examples of a chunk, padded to whole tiles
  std::int64_t input_splits;   // of the sum over S in dX
  std::int64_t weight_splits;  // of the sum over a chunk in dW

  std::int64_t batch() const { return chunks * chunk_rows; }
  std::int64_t sample_tiles() const { return samples / kSampleColumns; }
  std::int64_t chunk_tiles() const { return chunk_rows / kTileRows; }
  std::int64_t dim_tiles() const { return dim / dim_columns; }
};

// Number of split-k parts for a sum of `slices` slices of k for `tiles` tiles: enough for as many blocks as run at
// once, none shorter than 4 slices.
constexpr std::int64_t splits(std::int64_t tiles, std::int64_t slices, std::int64_t blocks_at_once) {
  const std::int64_t wanted = blocks_at_once / std::max<std::int64_t>(tiles, 1);
  return std::clamp<std::int64_t>(std::min(wanted, slices / 4), 1, 64);
}

inline Geometry geometry_of(const LossRequest& r, const runtime::Limits& limits) {
  Geometry g{};
  const Parts parts = parts_of(r);
  g.samples = padded(r.batch > 0 ? r.negatives.count : r.negatives.total(), kSampleColumns);
  g.dim = padded(std::max<std::int64_t>(r.dim, 1), 64);
  g.dim_columns = g.dim % 128 == 0 ? 128 : 64;
  const std::int64_t row_bytes = std::max<std::int64_t>(g.samples, 1) * 2 * parts.order;
  const std::int64_t most_rows =
      std::clamp<std::int64_t>(limits.l2_bytes / 2 / row_bytes / kTileRows, 1, 65535) * kTileRows;
  g.chunks = ceiling(r.batch, most_rows);
  g.chunk_rows = g.chunks == 0 ? 0 : padded(ceiling(r.batch, g.chunks), kTileRows);
  const std::int64_t blocks_at_once =
      limits.multiprocessors * product_plan(g.dim_columns, parts).blocks(limits.shared_bytes);
  g.input_splits = splits(g.chunk_tiles() * g.dim_tiles(), g.samples / kTileDepth, blocks_at_once);
  g.weight_splits = splits(g.sample_tiles() * g.dim_tiles(), g.chunk_rows / kTileDepth, blocks_at_once);
  return g;
}

// Of what goes over all classes and stores scores: a block of classes for a chunk of examples at a time, which fit half
// of the L2 cache.
struct ScoreGeometry {
  std::int64_t dim;      // D, padded to whole tiles, as are those below
  std::int64_t rows;     // examples of a chunk
  std::int64_t columns;  // classes of a block
};

inline ScoreGeometry score_geometry(const Scoring& scoring, const runtime::Limits& limits) {
  constexpr std::int64_t kMostRows = 1024;
  const std::int64_t cells = limits.l2_bytes / 2 / static_cast<std::int64_t>(sizeof(float));
  const std::int64_t most_rows = std::clamp<std::int64_t>(padded(scoring.batch, kTileRows), kTileRows, kMostRows);
  std::int64_t rows = kTileRows;
  while (rows < most_rows && (rows + kTileRows) * (rows + kTileRows) <= cells) rows += kTileRows;
  const std::int64_t columns = std::max<std::int64_t>(cells / rows / kSampleColumns, 1) * kSampleColumns;
  return {.dim = padded(std::max<std::int64_t>(scoring.dim, 1), 64),
          .rows = rows,
          .columns = std::min(columns, padded(scoring.num_classes, kSampleColumns))};
}

}  // namespace fastnce::cuda
