// Packs the caller's rows into bfloat16 planes, the operands of tile_product.cuh.
#pragma once

#include <cstdint>

#include "cuda/device.cuh"
#include "cuda/table.cuh"

namespace fastnce::cuda {

// Planes being written; as Operand in tile_product.cuh.
struct OperandPlanes {
  std::uint16_t* data;
  std::int64_t pitch;
  std::int64_t plane;
  int parts;
};

// Splits two numbers into `parts` bfloat16 parts each and calls store(part, pair).
template <class Store>
FASTNCE_DEVICE void split_pair(float low, float high, int parts, const Store& store) {
  for (int part = 0; part < parts; ++part) {
    const std::uint32_t pair = to_bfloat16_pair(low, high);
    store(part, pair);
    low -= from_bfloat16(static_cast<std::uint16_t>(pair));
    high -= from_bfloat16(static_cast<std::uint16_t>(pair >> 16));
  }
}

// One warp writes row `to` of the planes: the `dim` elements of `from`, or none where `present` is false, then zeros.
FASTNCE_DEVICE void write_operand_row(const Row& from, bool present, std::int64_t dim, std::int64_t to,
                                      const OperandPlanes& planes) {
  const int lane = thread_index() % kWarp;
  for (std::int64_t d = 2 * lane; d < planes.pitch; d += 2 * kWarp) {
    const float low = present && d < dim ? from[d] : 0.0f;
    const float high = present && d + 1 < dim ? from[d + 1] : 0.0f;
    split_pair(low, high, planes.parts, [&](int part, std::uint32_t pair) {
      *reinterpret_cast<std::uint32_t*>(planes.data + part * planes.plane + to * planes.pitch + d) = pair;
    });
  }
}

}  // namespace fastnce::cuda
