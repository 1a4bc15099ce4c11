// The tests' version of csrc/cuda/runtime/device.cuh, which explains each name: the same kernels, compiled for the
// host and run by block.h. Operations carry the line of the kernel that they stand in.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "block.h"
#include "cuda/runtime/runtime.h"
#include "fastnce/cuda.h"
#include "memory.h"
#include "mutation.h"
#include "shared_memory.h"
#include "warp.h"

#define FASTNCE_DEVICE inline
#define FASTNCE_KERNEL(most_threads, least_blocks) static void
#define FASTNCE_ARGUMENTS const

namespace fastnce::cuda {

using emulated::Site;

inline constexpr int kWarp = emulated::kWarpThreads;

using emulated::block_threads;
using emulated::block_x;
using emulated::block_y;
using emulated::grid_x;
using emulated::shared_memory;
using emulated::thread_index;

inline void forget_loads() {}
inline void sync_block(const Site& site = Site::current()) { emulated::sync_block(site); }
inline void sync_warp(const Site& site = Site::current()) { emulated::sync_warp(site); }

template <class T>
T shuffle(T value, int lane, const Site& site = Site::current()) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
  emulated::exchange(&value, sizeof value, lane, site);
  return value;
}
template <class T>
T shuffle_xor(T value, int mask, const Site& site = Site::current()) {
  return cuda::shuffle(value, thread_index() % kWarp ^ mask, site);
}
template <class T>
T shuffle_up(T value, int distance, const Site& site = Site::current()) {
  const int lane = thread_index() % kWarp;
  return cuda::shuffle(value, lane < distance ? lane : lane - distance, site);
}

inline std::int64_t row_offset(std::int64_t row, std::int64_t pitch, const Site& site = Site::current()) {
  const std::int64_t offset = row * pitch;
  return emulated::is_mutated(emulated::Mutation::kNarrowRow, site) ? static_cast<std::int32_t>(offset) : offset;
}

struct alignas(8) Words2 {
  std::uint32_t word[2];
};
struct alignas(16) Words4 {
  std::uint32_t word[4];
};
template <class Words>
Words load_words(const void* from) {
  emulated::require_aligned(from, sizeof(Words));
  return *static_cast<const Words*>(from);
}
template <class Words>
void store_words(void* to, const Words& words) {
  emulated::require_aligned(to, sizeof(Words));
  *static_cast<Words*>(to) = words;
}
inline Words2 load_8_bytes(const void* from) { return load_words<Words2>(from); }
inline Words4 load_16_bytes(const void* from) { return load_words<Words4>(from); }
inline void store_8_bytes(void* to, const Words2& words) { store_words(to, words); }
inline void store_16_bytes(void* to, const Words4& words) { store_words(to, words); }
inline void copy_16_bytes(void* to, const void* from) { store_16_bytes(to, load_16_bytes(from)); }

using AtomicWord = unsigned long long;
using emulated::atomic_add;
using emulated::atomic_cas;
using emulated::atomic_min;
using emulated::atomic_or;
using emulated::load_shared_word;

inline float from_float16(std::uint16_t bits) { return static_cast<float>(std::bit_cast<_Float16>(bits)); }
inline std::uint16_t to_float16(float value) { return std::bit_cast<std::uint16_t>(static_cast<_Float16>(value)); }
inline float from_bfloat16(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }
inline std::uint32_t to_bfloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return std::isnan(value) ? 0x7FFF : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
}
inline std::uint32_t to_bfloat16_pair(float low, float high) { return to_bfloat16(low) | to_bfloat16(high) << 16; }

inline float approximate_exp2(float x) { return std::exp2(x); }
inline float approximate_log2(float x) { return std::log2(x); }
inline float approximate_reciprocal(float x) { return 1.0f / x; }

using SharedAddress = std::uint32_t;
inline SharedAddress shared_address(const void* pointer) {
  return static_cast<SharedAddress>(static_cast<const unsigned char*>(pointer) - shared_memory());
}

inline void copy_async(SharedAddress to, const void* from, const Site& site = Site::current()) {
  emulated::copy_async(to, from, site);
}
inline void commit_copies(const Site& site = Site::current()) { emulated::commit_copies(site); }
template <int kPending>
void wait_for_copies(const Site& site = Site::current()) {
  emulated::wait_for_copies(kPending, site);
}

inline void load_matrices(std::uint32_t (&matrix)[4], SharedAddress row, const Site& site = Site::current()) {
  emulated::load_matrices(matrix, row, false, site);
}
inline void load_matrices_transposed(std::uint32_t (&matrix)[4], SharedAddress row,
                                     const Site& site = Site::current()) {
  emulated::load_matrices(matrix, row, true, site);
}
inline void multiply_add(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                         const Site& site = Site::current()) {
  emulated::multiply_add(c, a, b0, b1, emulated::Format::kBFloat16, site);
}
inline void multiply_add_float16(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                                 const Site& site = Site::current()) {
  emulated::multiply_add(c, a, b0, b1, emulated::Format::kFloat16, site);
}

struct Grid {
  std::int64_t x = 1, y = 1;
};

template <class Arguments>
struct Call {
  void (*kernel)(Arguments);
  const Arguments& arguments;

  // Not watched: reading the arguments is no access to the device's memory.
  [[gnu::no_sanitize("thread")]] static void run(const void* call) {
    const Call& self = *static_cast<const Call*>(call);
    self.kernel(self.arguments);
  }
};

template <class Arguments>
void launch_named(std::string_view text, void (*kernel)(Arguments), const Grid& grid, int threads, int shared_bytes,
                  const Stream& stream, const Arguments& arguments) {
  static_assert(std::is_trivially_copyable_v<Arguments> && sizeof(Arguments) <= 4096);
  const std::string name(text.substr(0, text.find_first_of("<,")));
  emulated::Work work(name, stream);
  const Call<Arguments> call{kernel, arguments};
  const std::int64_t blocks_run = emulated::run(name.c_str(), {grid.x, grid.y}, threads,
                                                static_cast<std::size_t>(shared_bytes), &Call<Arguments>::run, &call);
  if (blocks_run > 0) work.extrapolate(static_cast<double>(grid.x * grid.y) / static_cast<double>(blocks_run));
}
#define launch(...) launch_named(#__VA_ARGS__, __VA_ARGS__)

}  // namespace fastnce::cuda
