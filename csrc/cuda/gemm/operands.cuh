// Packs the caller's rows into planes of bfloat16 or float16, the operands of tile_product.cuh.
#pragma once

#include <cstdint>

#include "cuda/gemm/elements.cuh"
#include "cuda/runtime/device.cuh"

namespace fastnce::cuda {

FASTNCE_DEVICE void store_words(void* to, const std::uint32_t (&word)[2]) { store_8_bytes(to, {{word[0], word[1]}}); }
FASTNCE_DEVICE void store_words(void* to, const std::uint32_t (&word)[4]) {
  store_16_bytes(to, {{word[0], word[1], word[2], word[3]}});
}

// Planes being written; as Operand in tile_product.cuh.
struct OperandPlanes {
  std::uint16_t* data;
  std::int64_t pitch;
  std::int64_t plane;
  int parts;             // bfloat16
  bool float16 = false;  // one more plane follows, of rows stored in float16 as they are
};

// Writes elements of a row into the planes, from element `at` of each on.
template <DType kType, int kCount>
FASTNCE_DEVICE void write_operand(const Elements<kType, kCount>& elements, std::int64_t at,
                                  const OperandPlanes& planes) {
  float rest[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) rest[i] = elements[i];
#pragma unroll 1
  for (int part = 0; part < planes.parts; ++part) {
    std::uint32_t pair[kCount / 2];
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i) {
      pair[i] = to_bfloat16_pair(rest[2 * i], rest[2 * i + 1]);
      rest[2 * i] -= from_bfloat16(static_cast<std::uint16_t>(pair[i]));
      rest[2 * i + 1] -= from_bfloat16(static_cast<std::uint16_t>(pair[i] >> 16));
    }
    store_words(planes.data + row_offset(part, planes.plane) + at, pair);
  }
  if constexpr (kType == DType::kFloat16) {
    if (planes.float16) store_words(planes.data + row_offset(planes.parts, planes.plane) + at, elements.word);
  }
}

}  // namespace fastnce::cuda
