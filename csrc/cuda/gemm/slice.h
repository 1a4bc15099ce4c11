// Layout of a slice of an operand in shared memory.
#pragma once

#include "cuda/gemm/geometry.h"

namespace fastnce::cuda {

enum class Contiguous { kReduced, kOuter };  // which index of an operand runs along memory: k, or m (n)

// [outer, 32] or [32, outer] in bfloat16, in chunks of 16 bytes (8 elements), XOR-swizzled within each row so that the
// eight rows of an ldmatrix have no bank conflicts.
template <Contiguous kLayout, int kOuter>
struct Slice {
  static constexpr int kBytes = kOuter * kTileDepth * 2;
  static constexpr int kRowBytes = kLayout == Contiguous::kReduced ? kTileDepth * 2 : kOuter * 2;
  static constexpr int kChunksPerRow = kRowBytes / 16;

  static constexpr int offset(int row, int chunk) {
    const int permutation = kLayout == Contiguous::kReduced ? (row >> 1) & 3 : row & 7;
    return row * kRowBytes + ((chunk ^ permutation) << 4);
  }
};

}  // namespace fastnce::cuda
