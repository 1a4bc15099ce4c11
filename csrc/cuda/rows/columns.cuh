// Four neighbouring elements of a row in one access, or one element where addresses do not allow four. The element type
// is known at run time.
#pragma once

#include <bit>
#include <cstdint>

#include "cuda/rows/table.cuh"

namespace fastnce::cuda {

// Elements as they lie in memory: loads are issued together and converted later. The two types have registers of their
// own, because a load would wait for one that may write the same registers.
template <int kColumns>
struct RawColumns {
  Words4 wide;
  Words2 narrow;
};
template <>
struct RawColumns<1> {
  float wide;
  std::uint16_t narrow;
};

template <int kColumns>
FASTNCE_DEVICE void load_columns(const void* row, DType dtype, std::int64_t column, RawColumns<kColumns>& raw) {
  static_assert(kColumns == 1 || kColumns == 4);
  const bool wide = dtype == DType::kFloat32;
  const auto* const from = static_cast<const char*>(row) + column * (wide ? 4 : 2);
  if constexpr (kColumns == 4) {
    if (wide) {
      raw.wide = load_16_bytes(from);
    } else {
      raw.narrow = load_8_bytes(from);
    }
  } else {
    if (wide) {
      raw.wide = *reinterpret_cast<const float*>(from);
    } else {
      raw.narrow = *reinterpret_cast<const std::uint16_t*>(from);
    }
  }
}

FASTNCE_DEVICE std::uint16_t narrow_element(const RawColumns<4>& raw, int i) {
  return static_cast<std::uint16_t>(raw.narrow.word[i / 2] >> 16 * (i % 2));
}
FASTNCE_DEVICE std::uint16_t narrow_element(const RawColumns<1>& raw, int) { return raw.narrow; }
FASTNCE_DEVICE float wide_element(const RawColumns<4>& raw, int i) { return std::bit_cast<float>(raw.wide.word[i]); }
FASTNCE_DEVICE float wide_element(const RawColumns<1>& raw, int) { return raw.wide; }

template <int kColumns>
FASTNCE_DEVICE void convert_columns(const RawColumns<kColumns>& raw, DType dtype, float (&value)[kColumns]) {
  if (dtype == DType::kFloat32) {
#pragma unroll
    for (int i = 0; i < kColumns; ++i) value[i] = wide_element(raw, i);
  } else if (dtype == DType::kBFloat16) {
#pragma unroll
    for (int i = 0; i < kColumns; ++i) value[i] = from_bfloat16(narrow_element(raw, i));
  } else {
#pragma unroll
    for (int i = 0; i < kColumns; ++i) value[i] = from_float16(narrow_element(raw, i));
  }
}

template <int kColumns>
FASTNCE_DEVICE void store_columns(void* row, DType dtype, std::int64_t column, const float (&value)[kColumns]) {
  if constexpr (kColumns == 1) {
    store_as(row, dtype, column, value[0]);
  } else if (dtype == DType::kFloat32) {
    store_16_bytes(static_cast<float*>(row) + column,
                   {{std::bit_cast<std::uint32_t>(value[0]), std::bit_cast<std::uint32_t>(value[1]),
                     std::bit_cast<std::uint32_t>(value[2]), std::bit_cast<std::uint32_t>(value[3])}});
  } else {
    const auto pair = [&](int i) {
      return dtype == DType::kBFloat16
                 ? to_bfloat16_pair(value[i], value[i + 1])
                 : to_float16(value[i]) | static_cast<std::uint32_t>(to_float16(value[i + 1])) << 16;
    };
    store_8_bytes(static_cast<std::uint16_t*>(row) + column, {{pair(0), pair(2)}});
  }
}

}  // namespace fastnce::cuda
