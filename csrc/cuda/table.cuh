// Class tables and rows of them as kernels read them. Element types are known at run time only: kernels that read whole
// rows are compiled for each (with_type).
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "cuda/device.cuh"
#include "cuda/sampled_loss.h"
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

// A row of numbers, read as float32.
struct Row {
  const void* data;
  DType dtype;

  FASTNCE_DEVICE float operator[](std::int64_t i) const { return widened(load_element(data, dtype, i), dtype); }
};

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

// Rows that lie at equal distances.
struct Rows {
  const void* data;
  std::int64_t stride;  // in elements
  DType dtype;

  FASTNCE_DEVICE Row operator[](std::int64_t row) const {
    return {static_cast<const char*>(data) + row_offset(row, stride) * element_bytes(dtype), dtype};
  }
};

// A Table whose shards travel with the kernel's arguments.
struct DeviceTable {
  Shard shards[kMostShards];
  std::int64_t num_shards;
  std::int64_t rows;
  Partition partition;
  DType dtype;

  DeviceTable() = default;
  DeviceTable(const Table& table, DType element_type)
      : num_shards(std::ssize(table.shards)), rows(table.rows()), partition(table.partition), dtype(element_type) {
    std::copy(table.shards.begin(), table.shards.end(), shards);
  }

  FASTNCE_DEVICE Row row(std::int64_t id) const {
    const ShardAddress at = locate_row(id, rows, num_shards, partition);
    const Shard& shard = shards[at.shard];
    return Rows{shard.data, shard.row_stride, dtype}[at.row];
  }
};

// Writes element i of an array, rounded once.
FASTNCE_DEVICE void store_as(void* to, DType dtype, std::int64_t i, float value) {
  if (dtype == DType::kFloat32) {
    static_cast<float*>(to)[i] = value;
  } else {
    static_cast<std::uint16_t*>(to)[i] =
        dtype == DType::kBFloat16 ? static_cast<std::uint16_t>(to_bfloat16_pair(value, 0.0f)) : to_float16(value);
  }
}

// The same for the first `count` of four elements from element i on.
FASTNCE_DEVICE void store_4_as(void* to, DType dtype, std::int64_t i, const float (&value)[4], std::int64_t count) {
  char* const at = static_cast<char*>(to) + i * element_bytes(dtype);
  if (count < 4 || reinterpret_cast<std::uintptr_t>(at) % (4 * element_bytes(dtype)) != 0) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (k < count) store_as(at, dtype, k, value[k]);
    }
  } else if (dtype == DType::kFloat32) {
    Words4 words;
#pragma unroll
    for (int k = 0; k < 4; ++k) words.word[k] = std::bit_cast<std::uint32_t>(value[k]);
    store_16_bytes(at, words);
  } else {
    Words2 words;
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      words.word[k] = dtype == DType::kBFloat16
                          ? to_bfloat16_pair(value[2 * k], value[2 * k + 1])
                          : to_float16(value[2 * k]) | std::uint32_t{to_float16(value[2 * k + 1])} << 16;
    }
    store_8_bytes(at, words);
  }
}

}  // namespace fastnce::cuda
