// One [128, columns] tile of a GEMM on tensor cores, C[m, n] = sum_k A(m, k) B(n, k): the inner loop of all three GEMMs
// of the sampled loss.
//
// Operands are sums of `parts` bfloat16 planes, x = x0 + x1 + x2, where each part is the rounded remainder of the ones
// before it (8 bits each). Of the products of parts i and j those with i + j < order are computed: order 3 is as
// accurate as float32 (6 products), order 2 good for about 1e-5 (3), order 1 is plain bfloat16. An operand stored in
// bfloat16 is its own single part, exactly. Operands may be float16 instead, of one part each.
//
// Tensor cores add with truncation, which over long sums would be a bias of many float32 ulps. Above order 1 they
// therefore sum over 16 k only; longer sums are ordinary float32 additions.
//
// Warps in two rows compute the tile from slices of 32 k in shared memory, filled ahead by asynchronous copies. All
// extents are padded with zeros by the kernels that write the operands: nothing is checked here. A warp's share is 64
// rows and `warp columns`. With 64 columns it reads 8 KiB from shared memory per slice for 64 multiplications of 2,048
// multiply-adds, with 32 columns 6 KiB for 32, which leaves registers for more than the sums.
//
// A tile of 128 columns takes 16 KiB per part and slice from the L2 cache for 524,288 multiply-adds per product of
// parts: 32 per byte at order 1, 48 at order 2, 64 at order 3. At order 1 the L2 cache is therefore the limit (an H100
// at 5.5 TB/s would allow 350 TFLOP/s, its tensor cores 600 by this instruction), above it tensor cores are. These are
// predictions, not measurements.
#pragma once

#include <cstdint>

#include "cuda/gemm/slice.h"
#include "cuda/runtime/device.cuh"

namespace fastnce::cuda {

// An operand's planes in global memory: element (outer, k) of plane p is data[p * plane + outer * pitch + k], or
// data[p * plane + k * pitch + outer]. Aligned to 16 bytes, as are pitch and plane.
struct Operand {
  const std::uint16_t* data;
  std::int64_t pitch;
  std::int64_t plane;
};

// A thread's part in copying slices of an operand.
template <Contiguous kLayout, int kOuter, int kParts, int kThreads>
class SliceCopier {
 public:
  using Layout = Slice<kLayout, kOuter>;
  static constexpr int kRowsPerPass = kThreads / Layout::kChunksPerRow;
  static constexpr int kPasses = Layout::kBytes / 16 / kThreads;
  static_assert(kPasses > 0 && kRowsPerPass % 8 == 0);  // so that all passes have the same permutation

  FASTNCE_DEVICE SliceCopier(const Operand& operand, std::int64_t outer, int first_slice)
      : operand_(operand), offset_(Layout::offset(row(), chunk())) {
    const std::int64_t depth = std::int64_t{first_slice} * kTileDepth;
    from_ = operand.data + chunk() * 8 +
            (kLayout == Contiguous::kReduced ? row_offset(outer + row(), operand.pitch) + depth
                                             : row_offset(depth + row(), operand.pitch) + outer);
  }

  // Copies the next slice.
  FASTNCE_DEVICE void copy(SharedAddress to) {
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
#pragma unroll
      for (int pass = 0; pass < kPasses; ++pass) {
        copy_async(to + part * Layout::kBytes + offset_ + pass * kRowsPerPass * Layout::kRowBytes,
                   from_ + row_offset(part, operand_.plane) + row_offset(pass * kRowsPerPass, operand_.pitch));
      }
    }
    from_ += kLayout == Contiguous::kReduced ? kTileDepth : row_offset(kTileDepth, operand_.pitch);
  }

 private:
  FASTNCE_DEVICE static int row() { return thread_index() / Layout::kChunksPerRow; }
  FASTNCE_DEVICE static int chunk() { return thread_index() % Layout::kChunksPerRow; }

  const Operand& operand_;
  const std::uint16_t* from_;
  int offset_;
};

enum class Side { kA, kB };

// Reads 16 x 16 fragments of a slice: as A one operand of multiply_add(), as B two.
template <Side kSide, Contiguous kLayout, int kOuter>
class FragmentReader {
 public:
  using Layout = Slice<kLayout, kOuter>;

  // `outer`: where the warp's rows begin, a multiple of 32.
  FASTNCE_DEVICE explicit FragmentReader(int outer) {
    // Matrices 0 to 3 are (outer half, k half) = 00, 10, 01, 11 for A and 00, 01, 10, 11 for B.
    const int lane = thread_index() % kWarp;
    const int outer_half = kSide == Side::kA ? lane >> 3 & 1 : lane >> 4;
    const int depth_half = kSide == Side::kA ? lane >> 4 : lane >> 3 & 1;
    const int within = lane & 7;
    base_ = kLayout == Contiguous::kReduced ? Layout::offset(outer + outer_half * 8 + within, depth_half)
                                            : Layout::offset(depth_half * 8 + within, outer / 8 + outer_half);
  }

  // Fragment `index` along the outer extent, of k 16 `half` and on. Sixteen rows further on the permutation is the
  // same; two chunks further on one bit of the permuted chunk flips.
  FASTNCE_DEVICE void read(std::uint32_t (&fragment)[4], SharedAddress slice, int index, int half) const {
    if constexpr (kLayout == Contiguous::kReduced) {
      load_matrices(fragment, slice + ((base_ ^ (half << 5)) + index * 16 * Layout::kRowBytes));
    } else {
      load_matrices_transposed(fragment, slice + ((base_ ^ (index << 5)) + half * 16 * Layout::kRowBytes));
    }
  }

 private:
  int base_;
};

template <Contiguous kLayoutA, Contiguous kLayoutB, TilePlan kPlan, DType kOperands = DType::kBFloat16>
struct TileProduct {
  static constexpr int kPartsA = kPlan.parts_a;
  static constexpr int kPartsB = kPlan.parts_b;
  static constexpr int kOrder = kPlan.order;
  using SliceA = Slice<kLayoutA, kTileRows>;
  using SliceB = Slice<kLayoutB, kPlan.columns>;
  static constexpr int kStageBytes = SliceA::kBytes * kPartsA + SliceB::kBytes * kPartsB;
  static constexpr int kStages = kPlan.stages();
  static constexpr int kSharedBytes = kPlan.shared_bytes();
  static constexpr int kWarpsAcross = kPlan.warps_across();
  static constexpr int kThreads = kPlan.threads();
  static constexpr int kBlocks = kPlan.blocks();
  static constexpr int kRowTiles = 64 / 16;  // of a warp, 16 rows each
  static constexpr int kColumnTiles = kPlan.warp_columns / 8;
  static_assert(kStages * kStageBytes == kSharedBytes && kThreads == 2 * kWarpsAcross * kWarp);

  // A thread's elements of C. Those of tile (i, j) are at rows row() + 16 i (+ 8 for the second pair) and columns
  // column() + 8 j (+ 1 for the odd ones).
  float sum[kRowTiles][kColumnTiles][4];

  FASTNCE_DEVICE static int warp_row() { return thread_index() / kWarp / kWarpsAcross; }
  FASTNCE_DEVICE static int warp_column() { return thread_index() / kWarp % kWarpsAcross; }
  FASTNCE_DEVICE static int row() { return warp_row() * 64 + thread_index() % kWarp / 4; }
  FASTNCE_DEVICE static int column() { return warp_column() * kPlan.warp_columns + thread_index() % 4 * 2; }

  // Multiplies rows `a_row` .. of A by rows `b_row` .. of B over k slices [first, last). Ends with a barrier: shared
  // memory is free.
  FASTNCE_DEVICE void multiply(const Operand& a, const Operand& b, std::int64_t a_row, std::int64_t b_row, int first,
                               int last) {
    const SharedAddress stages = shared_address(shared_memory());
    SliceCopier<kLayoutA, kTileRows, kPartsA, kThreads> copy_a(a, a_row, first);
    SliceCopier<kLayoutB, kPlan.columns, kPartsB, kThreads> copy_b(b, b_row, first);
    const FragmentReader<Side::kA, kLayoutA, kTileRows> read_a(warp_row() * 64);
    const FragmentReader<Side::kB, kLayoutB, kPlan.columns> read_b(warp_column() * kPlan.warp_columns);
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
      for (int j = 0; j < kColumnTiles; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) sum[i][j][e] = 0.0f;
      }
    }
    int copied = first;
    const auto copy_slice = [&](int stage) {
      if (copied < last) {
        copy_a.copy(stages + stage * kStageBytes);
        copy_b.copy(stages + stage * kStageBytes + SliceA::kBytes * kPartsA);
      }
      ++copied;
      commit_copies();  // an empty group, too: the count of groups tells what has arrived
    };
    for (int stage = 0; stage < kStages - 1; ++stage) copy_slice(stage);
    int stage = 0;
    for (int slice = first; slice < last; ++slice) {
      wait_for_copies<kStages - 2>();
      sync_block();  // the slice is there for all, and all are done with the one before, whose place the copy takes
      copy_slice(stage == 0 ? kStages - 1 : stage - 1);
      multiply_slice(stages + stage * kStageBytes, read_a, read_b);
      stage = stage == kStages - 1 ? 0 : stage + 1;
    }
    sync_block();  // no copy is under way: each slice's was waited for, and the groups that followed are empty
  }

 private:
  template <class ReadA, class ReadB>
  FASTNCE_DEVICE void multiply_slice(SharedAddress slices, const ReadA& read_a, const ReadB& read_b) {
    const SharedAddress slices_b = slices + SliceA::kBytes * kPartsA;
#pragma unroll
    for (int half = 0; half < kTileDepth / 16; ++half) {
      std::uint32_t a[kPartsA][kRowTiles][4];
#pragma unroll
      for (int part = 0; part < kPartsA; ++part) {
#pragma unroll
        for (int i = 0; i < kRowTiles; ++i) read_a.read(a[part][i], slices + part * SliceA::kBytes, i, half);
      }
#pragma unroll
      for (int j = 0; j < kColumnTiles; j += 2) {
        std::uint32_t b[kPartsB][4];
#pragma unroll
        for (int part = 0; part < kPartsB; ++part) read_b.read(b[part], slices_b + part * SliceB::kBytes, j / 2, half);
#pragma unroll
        for (int i = 0; i < kRowTiles; ++i) {
          multiply_fragments(sum[i][j], a, i, b, 0);
          multiply_fragments(sum[i][j + 1], a, i, b, 2);
        }
      }
    }
  }

  FASTNCE_DEVICE static void multiply_fragments(float (&to)[4], const std::uint32_t (&a)[kPartsA][kRowTiles][4], int i,
                                                const std::uint32_t (&b)[kPartsB][4], int first_b) {
    if constexpr (kOperands == DType::kFloat16) {
      static_assert(kOrder == 1);
      multiply_add_float16(to, a[0][i], b[0][first_b], b[0][first_b + 1]);
    } else if constexpr (kOrder == 1) {
      multiply_add(to, a[0][i], b[0][first_b], b[0][first_b + 1]);
    } else {
      float c[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
      for (int both = kOrder - 1; both >= 0; --both) {  // small products first
#pragma unroll
        for (int part = 0; part < kPartsA; ++part) {
          const int other = both - part;
          if (other < 0 || other >= kPartsB) continue;
          multiply_add(c, a[part][i], b[other][first_b], b[other][first_b + 1]);
        }
      }
#pragma unroll
      for (int e = 0; e < 4; ++e) to[e] += c[e];
    }
  }
};

}  // namespace fastnce::cuda
