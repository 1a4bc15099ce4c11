// Device-wide sort and scan, by CUB. The tests have a second implementation.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastnce/cuda.h"

namespace fastnce::cuda {

// Scratch bytes for both functions below, for that many elements on the current device.
std::size_t sort_bytes(std::int64_t count);

// Sorts values by their keys' lowest `key_bits` bits; equal keys keep their order. The sorted keys and values go to the
// second arrays.
struct SortArrays {
  std::uint64_t* keys[2];
  std::uint32_t* values[2];
};
void sort_by_key(const SortArrays& arrays, std::int64_t count, int key_bits, void* scratch, std::size_t scratch_bytes,
                 const Stream& stream);

// sums[i] = flags[0] + .. + flags[i].
void running_sum(const std::uint32_t* flags, std::uint32_t* sums, std::int64_t count, void* scratch,
                 std::size_t scratch_bytes, const Stream& stream);

}  // namespace fastnce::cuda
