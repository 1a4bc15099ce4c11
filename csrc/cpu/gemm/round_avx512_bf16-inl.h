// Rounding to bfloat16 with AVX512-BF16. Compiled once per instruction set; the rules are in simd-inl.h. Include before
// split-inl.h.

// bfloat16 of first[i] and second[i], rounded to nearest even, as the low and high half of word i.
[[gnu::always_inline]] inline VecBits<float> rounded_pairs(Vec<float> first, Vec<float> second) {
  const __m512i halves = (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
  const __m512i interleaving = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22,
                                                6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return (VecBits<float>)_mm512_permutexvar_epi16(interleaving, halves);
}
