// The log-uniform (Zipfian) distribution over the classes [0, V): draws, probabilities, expected counts, and where in
// the random stream a call begins. TensorFlow's definitions, to the bit wherever TensorFlow's own result is determined.
#pragma once

#include <cmath>
#include <cstdint>

#include "math/exp.h"
#include "math/hd.h"
#include "math/loss/logistic.h"
#include "math/philox.h"

namespace fastnce::math {

// The text of a probability or a count serves scalars and vectors: D is double or a GCC vector of double, Bits the
// signed integer (vector) of its width.
FASTNCE_HD double rounded_to_float32(double x) { return static_cast<double>(static_cast<float>(x)); }

#if !defined(__CUDACC__)  // which has no vectors
template <class D>
FASTNCE_HD D rounded_to_float32(D x) {
  typedef float Narrow __attribute__((vector_size(sizeof(D) / 2)));
  return __builtin_convertvector(__builtin_convertvector(x, Narrow), D);
}
#endif

// log(1 + d) for -3/4 <= d <= 1, within some 1e-15 relative. With s = d / (2 + d), |s| <= 1/3, it is 2 atanh(s); below
// d = -1/2 the argument is doubled first.
template <class D>
FASTNCE_HD D log1p_near_zero(D d) {
  constexpr double kLn2 = 0x1.62e42fefa39efp-1;
  const auto doubled = d < -0.5;
  d = doubled ? d + (d + 1.0) : d;
  const D s = d / (d + 2.0);
  const D s2 = s * s;
  const D log = (s + s) + (s + s) * s2 * horner(s2, LogisticConstants<double>::atanh());
  return doubled ? log - kLn2 : log;
}

// p(k) = log((k + 2) / (k + 1)) / log(V + 1), whose sum over k telescopes to 1. Rounded once to float32: that is the
// value every expected count starts from. It is the rounded quotient whose logarithm TensorFlow takes: that loses
// relative accuracy as k 2^-53 and vanishes for k >= 2^53.
template <class D>
FASTNCE_HD D log_uniform_probability(D k, double log_range) {
  return rounded_to_float32(log1p_near_zero((k + 2.0) / (k + 1.0) - 1.0) * (1.0 / log_range));
}

// log(V + 1), the scale of the inverse CDF.
inline double log_uniform_log_range(std::int64_t range_max) { return std::log1p(static_cast<double>(range_max)); }

// Inverse CDF: P(exp(u log(V+1)) < k + 2) = log(k + 2) / log(V + 1), so truncating and taking 1 gives class k with
// probability p(k). Rounding could reach V itself, hence the modulo.
FASTNCE_HD std::int64_t log_uniform_id(double u, double log_range, std::int64_t range_max) {
  const std::int64_t id = static_cast<std::int64_t>(exp_reproducible(u * log_range)) - 1;
  return id < range_max ? id : id % range_max;
}

// Draw i of a stream is half i % 2 of its block i / 2: a draw takes two of the four words.
FASTNCE_HD std::int64_t log_uniform_draw(const PhiloxBlock& block, int half, double log_range, std::int64_t range_max) {
  const std::uint32_t* const words = half == 0 ? block.word : block.word + 2;
  return log_uniform_id(uniform_double(words[0], words[1]), log_range, range_max);
}

// 1 - e^-x for x >= 0: below kSmall, where that would cancel, by the series of e^r - 1, which holds up to ln2/2.
template <class D, class Bits>
FASTNCE_HD D one_minus_exp(D x) {
  constexpr double kSmall = 0.34;
  const D r = 0.0 - x;
  const D series = 0.0 - (horner(r, LogisticConstants<double>::exp()) * (r * r) + r);
  return x < kSmall ? series : 1.0 - exp_nonpositive<double, D, Bits>(r);
}

// How often a class of probability p is expected among S samples that took `tries` draws. With replacement tries = S
// and the count is S p. Unique sampling stops at S distinct classes; the chance that a class is among them is
// 1 - (1 - p)^tries. When no draw was rejected TensorFlow uses S p there too, which can exceed 1. Its intermediate
// results are float32, and rounded here where it rounds them. A draw is rejected only where V >= 2, so p <= log_3 2.
template <class D, class Bits>
FASTNCE_HD D expected_count(D probability, std::int64_t num_sampled, std::int64_t tries) {
  if (tries == num_sampled) return probability * static_cast<double>(static_cast<float>(num_sampled));
  const D minus_log = 0.0 - rounded_to_float32(log1p_near_zero(0.0 - probability));
  const D product = rounded_to_float32(minus_log * static_cast<double>(static_cast<float>(tries)));
  return one_minus_exp<D, Bits>(product);
}

// Where call number `call` (from 0) of the sampler (seed2, S) starts. Each call reserves 2048 words, 512 blocks, per
// sample: far more than it draws, so that calls do not overlap.
//
// TensorFlow computes 2048 S in 32 bits. For S in [2^20, 2^21) the product is negative, the blocks to skip become
// 2^64 - n, and its counter loses the carry of that addition out of the second word: the low half steps back by n, the
// high half goes up at each borrow between words 0 and 1, save the first, at which word 1 is still 0. Followed here to
// the letter. From S = 2^21 on the truncated product makes calls overlap or repeat; those reserve the full 512 S.
FASTNCE_HD PhiloxCounter log_uniform_stream_start(std::uint64_t seed2, std::int64_t num_sampled, std::uint64_t call) {
  constexpr std::int64_t kWordsPerSample = 2048;
  if (num_sampled >= (std::int64_t{1} << 20) && num_sampled < (std::int64_t{1} << 21) && call > 0) {
    const std::uint64_t step_back = ((std::uint64_t{1} << 32) - kWordsPerSample * num_sampled - 3) / 4;
    const std::uint64_t total = call * step_back;
    const std::uint64_t borrows = (total + 0xFFFFFFFFu) >> 32;
    return {0 - total, seed2 + (borrows - 1)};
  }
  const unsigned __int128 blocks =
      static_cast<unsigned __int128>(call) * static_cast<std::uint64_t>(kWordsPerSample / 4 * num_sampled);
  return {static_cast<std::uint64_t>(blocks), seed2 + static_cast<std::uint64_t>(blocks >> 64)};
}

}  // namespace fastnce::math
