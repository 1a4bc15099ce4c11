// How often a class is expected among the samples of a call, from its probability in one draw.
#pragma once

#include <cstdint>

#include "math/hd.h"
#include "math/loss/logistic.h"

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

// 1 - e^-x for x >= 0: below kSmall, where that would cancel, by the series of e^r - 1, which holds up to ln2/2.
template <class D, class Bits>
FASTNCE_HD D one_minus_exp(D x) {
  constexpr double kSmall = 0.34;
  const D r = 0.0 - x;
  const D series = 0.0 - (horner(r, LogisticConstants<double>::exp()) * (r * r) + r);
  return x < kSmall ? series : 1.0 - exp_nonpositive<double, D, Bits>(r);
}

// 1 - (1 - p)^tries from log(1 - p). TensorFlow's intermediate results are float32, and rounded here where it rounds
// them.
template <class D, class Bits>
FASTNCE_HD D chance_within(D log_of_complement, std::int64_t tries) {
  const D minus_log = 0.0 - rounded_to_float32(log_of_complement);
  const D product = rounded_to_float32(minus_log * static_cast<double>(static_cast<float>(tries)));
  return one_minus_exp<D, Bits>(product);
}

// How often a class of probability p is expected among S samples that took `tries` draws. With replacement tries = S
// and the count is S p. Unique sampling stops at S distinct classes; the chance that a class is among them is
// 1 - (1 - p)^tries. When no draw was rejected TensorFlow uses S p there too, which can exceed 1. For p <= 3/4 where
// tries != S: log-uniform draws are rejected only where V >= 2, so p <= log_3 2.
template <class D, class Bits>
FASTNCE_HD D expected_count(D probability, std::int64_t num_sampled, std::int64_t tries) {
  if (tries == num_sampled) return probability * static_cast<double>(static_cast<float>(num_sampled));
  return chance_within<D, Bits>(log1p_near_zero(0.0 - probability), tries);
}

// The same for any p in [0, 1] that is a float32 number: 1 - p is exact then, and doubled until it exceeds 1/4.
FASTNCE_HD double expected_count_of_any(double probability, std::int64_t num_sampled, std::int64_t tries) {
  constexpr double kLn2 = 0x1.62e42fefa39efp-1;
  if (tries == num_sampled || probability <= 0.75) {
    return expected_count<double, std::int64_t>(probability, num_sampled, tries);
  }
  if (probability >= 1.0) return 1.0;
  double complement = 1.0 - probability;
  int doublings = 0;
  for (; complement < 0.25; ++doublings) complement += complement;
  return chance_within<double, std::int64_t>(log1p_near_zero(complement - 1.0) - doublings * kLn2, tries);
}

}  // namespace fastnce::math
