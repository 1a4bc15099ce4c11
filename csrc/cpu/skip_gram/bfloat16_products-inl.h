// The products of a skip-gram block with its negatives in bfloat16: operands rounded once, sums in float32. Compiled
// once per instruction set; the rules are in simd-inl.h. Include after a file with rounded_pairs() and before
// step-inl.h.
//
// A word of an operand is a pair of steps of the inner dimension, any two as long as both operands have the same: along
// a row steps k and k + 16 of 32, so that a pair comes from two vectors; across rows those of two rows.

struct Bfloat16Products {
  static constexpr std::int64_t kSteps = 2;
  static constexpr bool kCopies = true;
  static constexpr std::int64_t kSide = kLanes<float>;

  // Of so many steps, the words that are not zeros.
  static constexpr std::int64_t words(std::int64_t steps) {
    const std::int64_t whole = steps / (2 * kSide), rest = steps % (2 * kSide);
    return whole * kSide + (rest < kSide ? rest : kSide);
  }

  [[gnu::always_inline]] static Vec<float> add(Vec<float> sum, Vec<float> a, Vec<float> b) {
    return (Vec<float>)_mm512_dpbf16_ps((__m512)sum, __builtin_bit_cast(__m512bh, a), __builtin_bit_cast(__m512bh, b));
  }

  // NV vectors of two rows as one row of pairs.
  template <int NV>
  [[gnu::always_inline]] static void join(const float* first, const float* second, float* to) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      const std::int64_t at = v * kSide;
      store(to + at, __builtin_bit_cast(Vec<float>, rounded_pairs(load(first + at), load(second + at))));
    }
  }

  template <int NV>
  static void enter(const SkipGramState& s, const SkipGramPart& part) {
    constexpr std::int64_t kWidth = NV * kSide, kWords = words(kWidth);
    for (std::int64_t i = 0; i < s.count; ++i) {
      const float* const x = part.x + i * kWidth;
#pragma GCC unroll 4
      for (int v = 0; v < NV; v += 2) {
        const Vec<float> second = v + 1 < NV ? load(x + (v + 1) * kSide) : Vec<float>{};
        store(part.x_along + i * kWords + v / 2 * kSide,
              __builtin_bit_cast(Vec<float>, rounded_pairs(load(x + v * kSide), second)));
      }
    }
    const float zeros[kPanel<float>] = {};
    for (std::int64_t p = 0; p < s.samples; p += kPanel<float>) {
      const float* const n = part.n_transposed + p * kWidth;
      for (std::int64_t w = 0; w < kWords; ++w) {
        const std::int64_t d = w / kSide * 2 * kSide + w % kSide;
        join<2>(n + d * kPanel<float>, d + kSide < kWidth ? n + (d + kSide) * kPanel<float> : zeros,
                part.n_along + p * kWords + w * kPanel<float>);
      }
    }
    for (std::int64_t i = 0; i < s.count; i += 2) {  // a row past the last is met by a G of zeros
      join<NV>(part.x + i * kWidth, part.x + (i + 1) * kWidth, part.x_across + i / 2 * kWidth);
    }
    for (std::int64_t n = 0; n < s.samples; n += 2 * kSide) {
      for (std::int64_t r = n; r < n + kSide; ++r) {
        join<NV>(part.n + r * kWidth, part.n + (r + kSide) * kWidth, part.n_across + (n / 2 + r - n) * kWidth);
      }
    }
  }

  static void enter_grad(const SkipGramState& s) {
    for (std::int64_t n = 0; n < s.samples && s.count % 2 == 1; n += kSide) {
      store(s.g + s.count * s.samples + n, Vec<float>{});
    }
    for (std::int64_t i = 0; i < s.count; ++i) {
      for (std::int64_t n = 0; n < s.samples; n += 2 * kSide) {
        const float* const g = s.g + i * s.samples + n;
        join<1>(g, g + kSide, s.g_along + (i * s.samples + n) / 2);
        if (i % 2 == 0) join<2>(g, g + s.samples, s.g_across + i / 2 * s.samples + n);
      }
    }
  }
};
