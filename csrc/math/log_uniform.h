// The log-uniform (Zipfian) distribution over the classes [0, V): draws, probabilities, expected counts, and where in
// the random stream a call begins. TensorFlow's definitions, to the bit wherever TensorFlow's own result is determined.
#pragma once

#include <cmath>
#include <cstdint>

#include "math/exp.h"
#include "math/hd.h"
#include "math/logistic.h"
#include "math/philox.h"

namespace fastnce::math {

// p(k) = log((k + 2) / (k + 1)) / log(V + 1), whose sum over k telescopes to 1. Rounded once to float32: that is the
// value every expected count starts from. The quotient loses relative accuracy as k 2^-53 and vanishes for k >= 2^53.
inline float log_uniform_probability(std::int64_t id, double log_range) {
  const double k = static_cast<double>(id);
  return static_cast<float>(std::log((k + 2.0) / (k + 1.0)) / log_range);
}

// log(V + 1), the scale of the inverse CDF.
inline double log_uniform_log_range(std::int64_t range_max) { return std::log1p(static_cast<double>(range_max)); }

// Inverse CDF: P(exp(u log(V+1)) < k + 2) = log(k + 2) / log(V + 1), so truncating and taking 1 gives class k with
// probability p(k). Rounding could reach V itself, hence the modulo.
FASTNCE_HD std::int64_t log_uniform_id(double u, double log_range, std::int64_t range_max) {
  const std::int64_t id = static_cast<std::int64_t>(exp_reproducible(u * log_range)) - 1;
  return id < range_max ? id : id % range_max;
}

// Draw `index` of the stream that starts at `start`: each block of four words holds two draws.
FASTNCE_HD std::int64_t log_uniform_draw(std::uint64_t key, PhiloxCounter start, std::uint64_t index, double log_range,
                                         std::int64_t range_max) {
  const PhiloxBlock block = philox4x32(key, advanced(start, index / 2));
  const int word = index % 2 ? 2 : 0;
  return log_uniform_id(uniform_double(block.word[word], block.word[word + 1]), log_range, range_max);
}

// 1 - e^-x for x >= 0, rounded once to float32: the C library's expm1f takes longer than all the rest of a count.
inline float one_minus_exp(float x) {
  constexpr float kSmall = 0.34f;     // below, 1 - e^-x would cancel; the series of e^r - 1 holds to ln2/2
  constexpr float kSaturated = 40.f;  // e^-40 is far below half a unit in the last place of 1
  const double r = -static_cast<double>(x);
  if (x < kSmall) return static_cast<float>(0.0 - (horner(r, LogisticConstants<double>::kExp) * (r * r) + r));
  if (x > kSaturated) return 1.f;
  return static_cast<float>(1.0 - exp_reproducible(r));
}

// How often a class of probability p is expected among S samples that took `tries` draws. With replacement tries = S
// and the count is S p. Unique sampling stops at S distinct classes; the chance that a class is among them is
// 1 - (1 - p)^tries. When no draw was rejected TensorFlow uses S p there too, which can exceed 1.
inline float expected_count(float probability, std::int64_t num_sampled, std::int64_t tries) {
  if (tries == num_sampled) return probability * static_cast<float>(num_sampled);
  return one_minus_exp(-(static_cast<float>(tries) * std::log1p(-probability)));
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
