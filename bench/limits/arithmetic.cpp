// Peak rates of the arithmetic units in GFLOP/s: independent accumulators in registers, no memory, nothing else.
#include "rate.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstdint>

#include "cpu/runtime/amx_permission.h"

namespace fastnce::bench {

namespace {

// A vector unit takes an operation per cycle whose result arrives four cycles later, and there are two of them: eight
// accumulators are the least, more leave room for longer latencies. Each function takes some tens of milliseconds.
constexpr std::int64_t kIterations = 4'000'000;
constexpr int kAvx2Accumulators = 12;    // of 16 registers
constexpr int kAvx512Accumulators = 24;  // of 32

// float32 multiply-adds. Inlined into functions with a target, whose instructions it then uses. The accumulator is a
// factor, so that no product can be taken out of the loop; the other factor is below one, so that it stays finite.
template <int kVectorBytes, int kAccumulators>
[[gnu::always_inline]] inline void multiply_add() {
  typedef float Vector __attribute__((vector_size(kVectorBytes)));
  float factor = 0.999f;
  asm volatile("" : "+m"(factor));  // not a constant
  const Vector a = Vector{} + factor;
  const Vector b = a * a;
  Vector x[kAccumulators];
#pragma GCC unroll 24
  for (int i = 0; i < kAccumulators; ++i) x[i] = a * static_cast<float>(i);
  for (std::int64_t k = 0; k < kIterations; ++k) {
#pragma GCC unroll 24
    for (int i = 0; i < kAccumulators; ++i) x[i] = x[i] * a + b;
  }
  keep(x);
}

[[gnu::target("avx2,fma")]] void fma_avx2() { multiply_add<32, kAvx2Accumulators>(); }

[[gnu::target("avx512f")]] void fma_avx512() { multiply_add<64, kAvx512Accumulators>(); }

// Products of bfloat16 pairs, added up in float32.
[[gnu::target("avx512f,avx512bf16")]] void bf16_avx512() {
  std::int32_t ones = 0x3f803f80;
  asm volatile("" : "+m"(ones));
  const __m512bh a = (__m512bh)_mm512_set1_epi32(ones);
  __m512 x[kAvx512Accumulators];
#pragma GCC unroll 24
  for (int i = 0; i < kAvx512Accumulators; ++i) x[i] = _mm512_set1_ps(static_cast<float>(i));  // or they would be one
  for (std::int64_t k = 0; k < kIterations; ++k) {
#pragma GCC unroll 24
    for (int i = 0; i < kAvx512Accumulators; ++i) x[i] = _mm512_dpbf16_ps(x[i], a, a);
  }
  keep(x);
}

// The same in tile registers, of zeros: six accumulators, each with 16 x 16 sums of 32 products, for a unit that takes
// one such operation per 16 cycles with a latency of 52.
constexpr std::int64_t kTileIterations = 500'000;
constexpr int kTileAccumulators = 6;

[[gnu::target("amx-tile,amx-bf16")]] void bf16_amx() {
  struct alignas(64) {
    std::uint8_t palette = 1;
    std::uint8_t start_row = 0;
    std::uint8_t reserved[14] = {};
    std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } config;
  asm volatile("" ::"r"(&config) : "memory");  // the compiler does not know that the next line reads it
  _tile_loadconfig(&config);
  for (std::int64_t k = 0; k < kTileIterations; ++k) {
    _tile_dpbf16ps(0, 6, 7);
    _tile_dpbf16ps(1, 6, 7);
    _tile_dpbf16ps(2, 6, 7);
    _tile_dpbf16ps(3, 6, 7);
    _tile_dpbf16ps(4, 6, 7);
    _tile_dpbf16ps(5, 6, 7);
  }
  _tile_release();
}

}  // namespace

std::vector<Limit> arithmetic_limits(int threads) {
  std::vector<Limit> limits;
  const auto measure = [&](const char* name, void (*kernel)(), double flops) {
    limits.push_back({name, 1e-9 * best_rate(threads, flops, [=](int) { kernel(); })});
  };
  // A multiply-add counts two.
  constexpr double kLoops = 2.0 * static_cast<double>(kIterations);
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    measure("fma_avx2_gflops", fma_avx2, kLoops * kAvx2Accumulators * 8);
  }
  if (__builtin_cpu_supports("avx512f")) measure("fma_avx512_gflops", fma_avx512, kLoops * kAvx512Accumulators * 16);
  if (__builtin_cpu_supports("avx512bf16")) {
    measure("bf16_avx512_gflops", bf16_avx512, kLoops * kAvx512Accumulators * 32);
  }
  if (cpu::amx_permitted()) {
    measure("bf16_amx_gflops", bf16_amx, 2.0 * kTileIterations * kTileAccumulators * 16 * 16 * 32);
  }
  return limits;
}

}  // namespace fastnce::bench

#else

namespace fastnce::bench {

std::vector<Limit> arithmetic_limits(int) { return {}; }

}  // namespace fastnce::bench

#endif
