#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "cpu/loss/loss_kernels.h"

namespace fastnce::cpu {
namespace {

// IEEE 754 binary16, by its definition.
float value_of(std::uint16_t half) {
  const int exponent = half >> 10 & 0x1f;
  const int fraction = half & 0x3ff;
  const float magnitude = exponent == 0x1f ? (fraction == 0 ? INFINITY : NAN)
                          : exponent == 0  ? std::ldexp(static_cast<float>(fraction), -24)
                                           : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
  return half >> 15 != 0 ? -magnitude : magnitude;
}

void expect_all_halves_widened() {
  for (int bits = 0; bits < 0x10000; ++bits) {
    const std::uint16_t half = static_cast<std::uint16_t>(bits);
    float wide = 0;
    loss_kernels<float>(current_isa()).widen(&half, DType::kFloat16, 1, &wide);
    const float expected = value_of(half);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(wide)) << bits;
    } else {
      ASSERT_EQ(wide, expected) << bits;
      ASSERT_EQ(std::signbit(wide), std::signbit(expected)) << bits;
    }
  }
}

TEST(ElementTypes, EveryFloat16IsWidenedExactly) { expect_all_halves_widened(); }

#if defined(__SSE__)
// As torch.set_flush_denormal(True) and libraries built with -ffast-math leave a thread.
TEST(ElementTypes, EveryFloat16IsWidenedExactlyWhereSubnormalsCountAsZero) {
  constexpr unsigned kSubnormalsAreZero = 0x8040;
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | kSubnormalsAreZero);
  expect_all_halves_widened();
  _mm_setcsr(before);
}
#endif

}  // namespace
}  // namespace fastnce::cpu
