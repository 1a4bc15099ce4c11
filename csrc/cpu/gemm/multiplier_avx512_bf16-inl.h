// The AVX512-BF16 micro-kernel: products of bfloat16 pairs in vectors (vdpbf16ps). Compiled once per instruction set;
// the rules are in simd-inl.h. Include after split-inl.h.

struct Avx512Bf16Multiplier {
  // Rows in chunks of 8: 16 accumulators take 8 broadcasts and 2 loads per step, which keeps both units of a core busy.
  template <int kParts, Write kWrite>
  static void multiply_square(const Bf16* a, const Bf16* b, std::int64_t depth_chunks, float* c) {
    constexpr int kRows = 8;
    const std::int64_t next_side = depth_chunks * kParts * kBlock;
    for (std::int64_t first = 0; first < kSquare; first += kRows) {
      const Bf16* const a_rows = a + first / kSide * next_side + first % kSide * kDepth;
      float* const c_rows = c + first * kSquare;
      Vec<float> sum[kRows][2] = {};
      for (std::int64_t k = 0; k < depth_chunks; ++k) {
        for (int i = 0; i < kParts; ++i) {
          for (int j = 0; j + i < kParts; ++j) {
            add_block<kRows>(a_rows + (k * kParts + i) * kBlock, b + (k * kParts + j) * kBlock, next_side, sum);
          }
        }
      }
#pragma GCC unroll 8
      for (int m = 0; m < kRows; ++m) {
        for (int v = 0; v < 2; ++v) {
          float* const at = c_rows + m * kSquare + v * kSide;
          store(at, kWrite == Write::kAdd ? load(at) + sum[m][v] : sum[m][v]);
        }
      }
    }
  }

 private:
  template <int kRows>
  [[gnu::always_inline]] static void add_block(const Bf16* a, const Bf16* b, std::int64_t next_side,
                                               Vec<float> (&sum)[kRows][2]) {
    for (std::int64_t p = 0; p < kSide; ++p) {
      const __m512bh b_pairs[] = {(__m512bh)load_words(b + p * kDepth),
                                  (__m512bh)load_words(b + next_side + p * kDepth)};
#pragma GCC unroll 8
      for (int m = 0; m < kRows; ++m) {
        std::int32_t pair;
        __builtin_memcpy(&pair, a + m * kDepth + 2 * p, sizeof pair);
        const __m512bh a_pair = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v) {
          sum[m][v] = (Vec<float>)_mm512_dpbf16_ps((__m512)sum[m][v], a_pair, b_pairs[v]);
        }
      }
    }
  }
};
