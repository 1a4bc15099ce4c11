// The log-uniform (Zipfian) distribution over the classes [0, V), for classes sorted by decreasing frequency.
// TensorFlow's definitions, to the bit wherever TensorFlow's own result is determined.
#pragma once

#include <cmath>
#include <cstdint>

#include "math/exp.h"
#include "math/hd.h"
#include "math/philox.h"
#include "math/sample_count.h"

namespace fastnce::math {

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

struct LogUniform {
  static constexpr const char* kName = "log_uniform";
  static constexpr int kFixedWords = 2;
  static constexpr int kRetriedWords = 0;
  static constexpr bool kOnDevice = true;

  template <class Given>
  explicit LogUniform(const Given& given)
      : range_max(given.range_max), log_range(log_uniform_log_range(given.range_max)) {}

  FASTNCE_HD std::int64_t id(const std::uint32_t* fixed, const std::uint32_t*) const {
    return log_uniform_id(uniform_double(fixed[0], fixed[1]), log_range, range_max);
  }
  FASTNCE_HD double probability(std::int64_t k) const {
    return log_uniform_probability(static_cast<double>(k), log_range);
  }

  // log(1 + 1 / (k + 1)) is 2 atanh(s) with s = 1 / (2 k + 3), which is at most 1/3.
  double exact_probability(std::int64_t k) const {
    const double s = 1.0 / (2.0 * static_cast<double>(k) + 3.0);
    const double s2 = s * s;
    return ((s + s) + (s + s) * s2 * horner(s2, LogisticConstants<double>::atanh())) * (1.0 / log_range);
  }

  std::int64_t range_max;
  double log_range;
};

}  // namespace fastnce::math
