// Numbers of any element type, on the host as float32 and on a device as they are.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "device_memory.h"
#include "fastnce/types.h"

namespace fastnce {

inline float rounded(float value, DType dtype) {
  if (dtype == DType::kFloat16) return static_cast<float>(static_cast<_Float16>(value));
  if (dtype == DType::kFloat32 || std::isnan(value)) return value;
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return std::bit_cast<float>((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000);
}

inline std::uint16_t half_bits(float value, DType dtype) {
  if (dtype == DType::kFloat16) return std::bit_cast<std::uint16_t>(static_cast<_Float16>(value));
  return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(rounded(value, dtype)) >> 16);
}

inline float from_half_bits(std::uint16_t bits, DType dtype) {
  return dtype == DType::kFloat16 ? static_cast<float>(std::bit_cast<_Float16>(bits))
                                  : std::bit_cast<float>(std::uint32_t{bits} << 16);
}

// Numbers of any type, `skip` elements into an allocation.
class Numbers {
 public:
  Numbers(std::size_t count, DType dtype, std::int64_t skip)
      : count_(count), dtype_(dtype), skip_(skip), bytes_((count + skip) * element_bytes(dtype)) {}
  Numbers(const std::vector<float>& values, DType dtype, std::int64_t skip) : Numbers(values.size(), dtype, skip) {
    std::vector<std::uint16_t> halves;
    for (const float value : values) halves.push_back(half_bits(value, dtype));
    const void* const from = dtype == DType::kFloat32 ? static_cast<const void*>(values.data()) : halves.data();
    copy_to_device(data(), from, count_ * element_bytes(dtype));
  }

  void* data() const { return bytes_.data() + skip_ * element_bytes(dtype_); }
  std::vector<float> values() const {
    std::vector<float> all(count_);
    if (dtype_ == DType::kFloat32) {
      copy_to_host(all.data(), data(), count_ * sizeof(float));
    } else {
      std::vector<std::uint16_t> halves(count_);
      copy_to_host(halves.data(), data(), count_ * sizeof(std::uint16_t));
      std::ranges::transform(halves, all.begin(), [&](std::uint16_t bits) { return from_half_bits(bits, dtype_); });
    }
    return all;
  }

 private:
  std::size_t count_;
  DType dtype_;
  std::int64_t skip_;
  DeviceArray<unsigned char> bytes_;
};

}  // namespace fastnce
