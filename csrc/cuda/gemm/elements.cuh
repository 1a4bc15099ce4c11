// Elements of float32, float16 and bfloat16 arrays, read as float32. Kernels that read whole rows are compiled for each
// type and load vectors of 8 bytes or more.
#pragma once

#include <bit>
#include <cstdint>

#include "cuda/runtime/device.cuh"
#include "fastnce/types.h"

namespace fastnce::cuda {

// Calls use.operator()<kType>() for the element type of tables and inputs.
template <class Use>
void with_type(DType dtype, const Use& use) {
  if (dtype == DType::kFloat32) return use.template operator()<DType::kFloat32>();
  dtype == DType::kFloat16 ? use.template operator()<DType::kFloat16>() : use.template operator()<DType::kBFloat16>();
}

// An element as it is stored, without a wait for it, and as float32.
FASTNCE_DEVICE std::uint32_t load_element(const void* data, DType dtype, std::int64_t i) {
  if (dtype == DType::kFloat32) return static_cast<const std::uint32_t*>(data)[i];
  return static_cast<const std::uint16_t*>(data)[i];
}
FASTNCE_DEVICE float widened(std::uint32_t bits, DType dtype) {
  if (dtype == DType::kFloat32) return std::bit_cast<float>(bits);
  const auto half = static_cast<std::uint16_t>(bits);
  return dtype == DType::kBFloat16 ? from_bfloat16(half) : from_float16(half);
}

// kCount elements that follow each other, as they are stored. Loading them does not wait for them.
template <DType kType, int kCount>
struct Elements {
  static constexpr int kElementBytes = static_cast<int>(element_bytes(kType));
  static constexpr int kBytes = kCount * kElementBytes;
  static_assert(kBytes == 8 || kBytes % 16 == 0);

  std::uint32_t word[kBytes / 4] = {};

  FASTNCE_DEVICE static const char* at(const void* row, std::int64_t i) {
    return static_cast<const char*>(row) + i * kElementBytes;
  }
  // Whether load() may read from there.
  FASTNCE_DEVICE static bool is_aligned(const void* from) {
    return reinterpret_cast<std::uintptr_t>(from) % (kBytes < 16 ? kBytes : 16) == 0;
  }
  FASTNCE_DEVICE void load(const void* from) {
    if constexpr (kBytes == 8) {
      const Words2 words = load_8_bytes(from);
      word[0] = words.word[0];
      word[1] = words.word[1];
    } else {
#pragma unroll
      for (int i = 0; i < kBytes / 16; ++i) {
        const Words4 words = load_16_bytes(at(from, i * 16 / kElementBytes));
#pragma unroll
        for (int k = 0; k < 4; ++k) word[4 * i + k] = words.word[k];
      }
    }
  }
  // The first `count`, one by one; zeros follow.
  FASTNCE_DEVICE void gather(const void* from, std::int64_t count) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const std::uint32_t bits = i < count ? load_element(from, kType, i) : 0;
      if (kElementBytes == 4) {
        word[i] = bits;
      } else {
        word[i / 2] = i % 2 == 0 ? bits : word[i / 2] | bits << 16;
      }
    }
  }
  FASTNCE_DEVICE float operator[](int i) const {
    return widened(kElementBytes == 4 ? word[i] : word[i / 2] >> (16 * (i % 2)), kType);
  }
};

}  // namespace fastnce::cuda
