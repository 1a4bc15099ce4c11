// The AMX kernels with tile instructions in software. Linked before the library, this file takes the place of its
// isa_builds/amx.cpp and amx_permission.cpp, so that FASTNCE_ISA=amx runs the same kernels on machines without tile
// registers.
#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "cpu/runtime/amx_permission.h"

namespace fastnce::cpu {
namespace {

constexpr std::int64_t kRows = 16;
constexpr std::int64_t kRowBytes = 64;

// One thread's tile registers. Like the processor, it refuses to work before it is configured.
class TileRegisters {
 public:
  void configure(const void* config) {
    const auto* bytes = static_cast<const std::uint8_t*>(config);
    bool whole = bytes[0] == 1;  // palette
    // Reserved: the processor faults where they are not 0.
    for (int i = 1; i < 64; ++i) whole = whole && (bytes[i] == 0 || (i >= 16 && i < 32) || (i >= 48 && i < 56));
    for (int t = 0; t < 8; ++t) whole = whole && bytes[16 + 2 * t] == kRowBytes && bytes[48 + t] == kRows;
    if (!whole) std::abort();
    configured_ = true;
    std::memset(tiles_, 0, sizeof tiles_);
  }
  void release() { configured_ = false; }
  void zero(int tile) { std::memset(at(tile), 0, sizeof tiles_[0]); }
  void load(int tile, const void* from, std::int64_t stride) {
    for (std::int64_t r = 0; r < kRows; ++r) {
      std::memcpy(at(tile) + r * kRowBytes, static_cast<const char*>(from) + r * stride, kRowBytes);
    }
  }
  void store(int tile, void* to, std::int64_t stride) {
    for (std::int64_t r = 0; r < kRows; ++r) {
      std::memcpy(static_cast<char*>(to) + r * stride, at(tile) + r * kRowBytes, kRowBytes);
    }
  }
  // As TDPBF16PS is specified: 32 products are summed up from zero, even and odd steps apart, before C is touched.
  void multiply_bf16(int c, int a, int b) {
    for (std::int64_t m = 0; m < kRows; ++m) {
      float sums[2][16] = {};
      for (std::int64_t k = 0; k < 16; ++k) {
        for (std::int64_t odd = 0; odd < 2; ++odd) {
          const float a_element = element(at(a) + m * kRowBytes + k * 4 + odd * 2);
          const char* b_row = at(b) + k * kRowBytes + odd * 2;
          for (std::int64_t n = 0; n < 16; ++n)
            sums[odd][n] = std::fma(a_element, element(b_row + n * 4), sums[odd][n]);
        }
      }
      float total[16];
      std::memcpy(total, at(c) + m * kRowBytes, kRowBytes);
      for (std::int64_t n = 0; n < 16; ++n) total[n] += sums[0][n] + sums[1][n];
      std::memcpy(at(c) + m * kRowBytes, total, kRowBytes);
    }
  }

 private:
  char* at(int tile) {
    if (!configured_) std::abort();
    return tiles_[tile];
  }
  static float element(const char* at) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, at, 2);
    const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
    float value = 0;
    std::memcpy(&value, &wide, 4);
    return value;
  }

  bool configured_ = false;
  char tiles_[8][kRows * kRowBytes];
};

thread_local TileRegisters tile_registers;

}  // namespace

bool amx_permitted() { return true; }

}  // namespace fastnce::cpu

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig(config) tile_registers.configure(config)
#define _tile_release() tile_registers.release()
#define _tile_zero(tile) tile_registers.zero(tile)
#define _tile_loadd(tile, from, stride) tile_registers.load(tile, from, stride)
#define _tile_stored(tile, to, stride) tile_registers.store(tile, to, stride)
#define _tile_dpbf16ps(c, a, b) tile_registers.multiply_bf16(c, a, b)

#include "cpu/isa_builds/amx.cpp"  // NOLINT(bugprone-suspicious-include): its place is what this file takes
