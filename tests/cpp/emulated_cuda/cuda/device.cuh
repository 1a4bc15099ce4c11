// The tests' version of csrc/cuda/device.cuh, which explains each name: the same kernels, compiled for the
// host and run by block.h.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "block.h"
#include "cuda/runtime.h"
#include "fastnce/cuda.h"

#define FASTNCE_DEVICE inline
#define FASTNCE_KERNEL(most_threads, least_blocks) static void
#define FASTNCE_ARGUMENTS const

namespace fastnce::cuda {

inline constexpr int kWarp = emulated::kWarpThreads;

inline int thread_index() { return emulated::current().index; }
inline int block_threads() { return emulated::current().block_threads; }
inline std::int64_t block_x() { return emulated::current().block[0]; }
inline std::int64_t block_y() { return emulated::current().block[1]; }
inline std::int64_t grid_x() { return emulated::current().grid_x; }
inline unsigned char* shared_memory() { return emulated::current().shared; }

inline void forget_loads() {}
inline void sync_block() { emulated::sync_block(); }
inline void sync_warp() {
  emulated::meet_warp(nullptr, [](void* const(&)[kWarp]) {});
}

// Every thread of the warp gets what `source(lane)` names.
template <class T, class Source>
T exchange(T value, const Source& source) {
  struct Brought {
    T value, result;
  } own{value, value};
  emulated::meet_warp(&own, [&](void* const(&all)[kWarp]) {
    for (int lane = 0; lane < kWarp; ++lane) {
      static_cast<Brought*>(all[lane])->result = static_cast<Brought*>(all[source(lane)])->value;
    }
  });
  return own.result;
}
template <class T>
T shuffle(T value, int from) {
  return exchange(value, [&](int) { return from; });
}
template <class T>
T shuffle_xor(T value, int mask) {
  return exchange(value, [&](int lane) { return lane ^ mask; });
}
template <class T>
T shuffle_up(T value, int distance) {
  return exchange(value, [&](int lane) { return lane < distance ? lane : lane - distance; });
}

inline std::int64_t row_offset(std::int64_t row, std::int64_t pitch) { return row * pitch; }

struct alignas(8) Words2 {
  std::uint32_t word[2];
};
struct alignas(16) Words4 {
  std::uint32_t word[4];
};
inline Words2 load_8_bytes(const void* from) { return *static_cast<const Words2*>(from); }
inline Words4 load_16_bytes(const void* from) { return *static_cast<const Words4*>(from); }
inline void store_8_bytes(void* to, const Words2& words) { *static_cast<Words2*>(to) = words; }
inline void store_16_bytes(void* to, const Words4& words) { *static_cast<Words4*>(to) = words; }
inline void copy_16_bytes(void* to, const void* from) { store_16_bytes(to, load_16_bytes(from)); }
struct alignas(8) FloatPair {
  float low, high;
};

using AtomicWord = unsigned long long;
inline AtomicWord atomic_cas(AtomicWord* word, AtomicWord expected, AtomicWord desired) {
  const AtomicWord old = *word;
  if (old == expected) *word = desired;
  return old;
}
inline void atomic_min(AtomicWord* word, AtomicWord value) { *word = *word < value ? *word : value; }
inline AtomicWord atomic_add(AtomicWord* word, AtomicWord value) {
  const AtomicWord old = *word;
  *word += value;
  return old;
}
inline AtomicWord load_shared_word(const AtomicWord* word) { return *word; }

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

inline void copy_async(SharedAddress to, const void* from) {
  emulated::current().copies.back().push_back({shared_memory() + to, from});
}
inline void commit_copies() { emulated::current().copies.emplace_back(); }
template <int kPending>
void wait_for_copies() {
  auto& copies = emulated::current().copies;
  while (copies.size() > kPending + 1) {  // and the group being formed
    for (const emulated::Copy& copy : copies.front()) std::memcpy(copy.to, copy.from, 16);
    copies.erase(copies.begin());
  }
}

template <bool kTransposed>
void load_matrices_as(std::uint32_t (&matrix)[4], SharedAddress row) {
  struct Brought {
    const unsigned char* row;
    std::uint32_t* matrix;
  } own{shared_memory() + row, matrix};
  emulated::meet_warp(&own, [](void* const(&all)[kWarp]) {
    const auto element = [&](int index, int r, int c) {
      std::uint16_t value;
      std::memcpy(&value, static_cast<Brought*>(all[8 * index + r])->row + 2 * c, sizeof value);
      return std::uint32_t{value};
    };
    for (int lane = 0; lane < kWarp; ++lane) {
      for (int index = 0; index < 4; ++index) {
        const int line = lane / 4;
        const int pair = 2 * (lane % 4);
        static_cast<Brought*>(all[lane])->matrix[index] =
            kTransposed ? element(index, pair, line) | element(index, pair + 1, line) << 16
                        : element(index, line, pair) | element(index, line, pair + 1) << 16;
      }
    }
  });
}
inline void load_matrices(std::uint32_t (&matrix)[4], SharedAddress row) { load_matrices_as<false>(matrix, row); }
inline void load_matrices_transposed(std::uint32_t (&matrix)[4], SharedAddress row) {
  load_matrices_as<true>(matrix, row);
}

inline void multiply_add(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  struct Brought {
    float* c;
    const std::uint32_t* a;
    std::uint32_t b[2];
  } own{c, a, {b0, b1}};
  emulated::meet_warp(&own, [](void* const(&all)[kWarp]) {
    float wide_a[16][16];
    float wide_b[16][8];
    for (int lane = 0; lane < kWarp; ++lane) {
      const Brought& from = *static_cast<Brought*>(all[lane]);
      const int g = lane / 4;
      const int t = lane % 4;
      for (int half = 0; half < 2; ++half) {
        const auto part = [&](std::uint32_t pair) {
          return from_bfloat16(static_cast<std::uint16_t>(half == 0 ? pair : pair >> 16));
        };
        wide_a[g][2 * t + half] = part(from.a[0]);
        wide_a[g + 8][2 * t + half] = part(from.a[1]);
        wide_a[g][2 * t + 8 + half] = part(from.a[2]);
        wide_a[g + 8][2 * t + 8 + half] = part(from.a[3]);
        wide_b[2 * t + half][g] = part(from.b[0]);
        wide_b[2 * t + 8 + half][g] = part(from.b[1]);
      }
    }
    for (int lane = 0; lane < kWarp; ++lane) {
      float* const to = static_cast<Brought*>(all[lane])->c;
      for (int e = 0; e < 4; ++e) {
        const int row = lane / 4 + 8 * (e / 2);
        const int column = 2 * (lane % 4) + e % 2;
        for (int k = 0; k < 16; ++k) to[e] += wide_a[row][k] * wide_b[k][column];
      }
    }
  });
}

struct Grid {
  std::int64_t x = 1, y = 1;
};

template <class Arguments>
void launch(void (*kernel)(Arguments), const Grid& grid, int threads, int shared_bytes, const Stream&,
            const Arguments& arguments) {
  emulated::run({grid.x, grid.y}, threads, static_cast<std::size_t>(shared_bytes), [&] { kernel(arguments); });
}

}  // namespace fastnce::cuda
