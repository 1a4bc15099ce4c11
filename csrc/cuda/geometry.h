// The launch plan of a call: tiles, chunks and blocks, as pure functions of its sizes and the device's, so that they
// can be tested on any machine.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/runtime.h"
#include "fastnce/sampled_loss.h"

namespace fastnce::cuda {

inline constexpr int kWarpThreads = 32;
inline constexpr int kTileRows = 128;       // of every product's tile
inline constexpr int kSampleColumns = 128;  // of the logits' tiles
inline constexpr int kTileDepth = 32;       // of one slice along k

// Slices kept in shared memory: as many as let two blocks share a multiprocessor of 228 KiB and one block run where 99
// KiB are all (compute capability 8.6, 8.9, 12.0).
constexpr int tile_stages(int stage_bytes) { return std::clamp(96 * 1024 / stage_bytes, 2, 4); }

constexpr std::int64_t ceiling(std::int64_t value, std::int64_t divisor) { return (value + divisor - 1) / divisor; }
constexpr std::int64_t padded(std::int64_t value, std::int64_t multiple) { return ceiling(value, multiple) * multiple; }

// The parts of bfloat16 operands. Inputs and weights that are both stored in bfloat16 are exact in one part.
struct Parts {
  int order;     // 1 to 3; parts of G
  int operands;  // of X and W: 1 or `order`
};
inline Parts parts_of(const SampledLossParams& p) {
  const int order = p.precision == Precision::kHighest ? 3 : p.precision == Precision::kHigh ? 2 : 1;
  const bool stored =
      p.weights_dtype.value_or(p.dtype) == DType::kBFloat16 && p.inputs_dtype.value_or(p.dtype) == DType::kBFloat16;
  return {order, stored ? 1 : order};
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

inline Geometry geometry_of(const SampledLossParams& p, const runtime::Limits& limits) {
  Geometry g{};
  const int order = parts_of(p).order;
  g.samples = padded(p.num_sampled, kSampleColumns);
  g.dim = padded(std::max<std::int64_t>(p.dim, 1), 64);
  g.dim_columns = g.dim % 128 == 0 ? 128 : 64;
  const std::int64_t row_bytes = std::max<std::int64_t>(g.samples, 1) * 2 * order;
  const std::int64_t most_rows =
      std::clamp<std::int64_t>(limits.l2_bytes / 2 / row_bytes / kTileRows, 1, 65535) * kTileRows;
  g.chunks = ceiling(p.batch, most_rows);
  g.chunk_rows = g.chunks == 0 ? 0 : padded(ceiling(p.batch, g.chunks), kTileRows);
  const int blocks_at_once = limits.multiprocessors * (order == 1 ? 2 : 1);
  g.input_splits = splits(g.chunk_tiles() * g.dim_tiles(), g.samples / kTileDepth, blocks_at_once);
  g.weight_splits = splits(g.samples / kTileRows * g.dim_tiles(), g.chunk_rows / kTileDepth, blocks_at_once);
  return g;
}

}  // namespace fastnce::cuda
