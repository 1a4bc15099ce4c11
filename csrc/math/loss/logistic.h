// softplus and sigmoid of one logit, together: the value and the derivative of every logistic loss.
//
// Written over a type V that is float, double or a GCC vector of either, so that one text serves scalar code, every
// SIMD width and CUDA. NaN goes through. Error against exact arithmetic (asserted by test_logistic.cpp):
//   softplus: kSoftplusMaxUlp units in the last place; sigmoid: kSigmoidMaxUlp. Below |x| ~ 87 (float32) or 708
//   (float64), where e^-|x| leaves the normal range, it is flushed to exactly 0.
#pragma once

#include <cstdint>
#include <limits>

#include "math/hd.h"

namespace fastnce::math {

inline constexpr double kSoftplusMaxUlp = 5.0;
inline constexpr double kSigmoidMaxUlp = 5.0;

// The coefficients of a polynomial, lowest first. A value, not a static array: device code may not refer to the host's.
template <class T, int N>
struct Polynomial {
  T coefficient[N];
};

template <class V, class T, int N>
FASTNCE_HD V horner(V x, const Polynomial<T, N>& polynomial) {
  V sum = V{} + polynomial.coefficient[N - 1];
  for (int i = N - 2; i >= 0; --i) sum = sum * x + polynomial.coefficient[i];
  return sum;
}

// What the polynomials need to know about a scalar type. Coefficients are minimax (Remez) fits of relative error:
//   exp:   exp(r) = 1 + r + r^2 q(r)            for |r| <= ln2/2
//   atanh: atanh(s)/s = 1 + s^2 h(s^2)          for s^2 <= 1/9
template <class T>
struct LogisticConstants;

template <>
struct LogisticConstants<float> {
  using Bits = std::int32_t;
  static constexpr Bits kSignBit = std::numeric_limits<Bits>::min();
  static constexpr int kMantissaBits = 23;
  static constexpr float kMinExponent = -87.33654f;          // exp of it is the smallest normal number
  static constexpr float kRoundToInteger = 0x1.8p23f + 127;  // the exponent bias
  static constexpr float kLog2E = 0x1.715476p0f;
  static constexpr float kLn2High = 0x1.62e4p-1f;  // trailing zeros: k * high is exact for |k| < 2^10
  static constexpr float kLn2Low = 0x1.7f7d1cp-20f;
  FASTNCE_HD static constexpr Polynomial<float, 5> exp() {
    return {{0.49999993449068847f, 0.1666652063479201f, 0.041668387561830715f, 0.008368716680285658f,
             0.0013814630673773933f}};
  }
  FASTNCE_HD static constexpr Polynomial<float, 4> atanh() {
    return {{0.3333320721825099f, 0.20010819262430024f, 0.1399999513230536f, 0.14010374459477418f}};
  }
};

template <>
struct LogisticConstants<double> {
  using Bits = std::int64_t;
  static constexpr Bits kSignBit = std::numeric_limits<Bits>::min();
  static constexpr int kMantissaBits = 52;
  static constexpr double kMinExponent = -708.3964185322641;
  static constexpr double kRoundToInteger = 0x1.8p52 + 1023;
  static constexpr double kLog2E = 0x1.71547652b82fep0;
  static constexpr double kLn2High = 0x1.62e42fefa0000p-1;
  static constexpr double kLn2Low = 0x1.cf79abc9e3b39p-40;
  FASTNCE_HD static constexpr Polynomial<double, 10> exp() {
    return {{0.5000000000000011, 0.16666666666666413, 0.041666666666530225, 0.008333333333494446, 0.0013888888943611268,
             0.00019841269506545427, 2.4801493119366655e-05, 2.7557586461204274e-06, 2.763024093518217e-07,
             2.5000017996232882e-08}};
  }
  FASTNCE_HD static constexpr Polynomial<double, 10> atanh() {
    return {{0.3333333333333316, 0.2000000000007689, 0.14285714274107483, 0.11111111975199321, 0.0909087226388008,
             0.07693274171285788, 0.06650556296010798, 0.06052535111178859, 0.041721191794598475, 0.08505690515500106}};
  }
};

// exp(x) for x <= 0. `Bits` is the signed integer (vector) type of V's width.
template <class T, class V, class Bits>
FASTNCE_HD V exp_nonpositive(V x) {
  using C = LogisticConstants<T>;
  // x = k ln2 + r with |r| <= ln2/2: adding 1.5 * 2^mantissa + bias rounds to the integer k and leaves k + bias in the
  // low bits, which are, shifted up, the bits of 2^k.
  // Below kMinExponent all of this is nonsense, and thrown away in the end.
  const V shifted = x * C::kLog2E + C::kRoundToInteger;
  const V k = shifted - C::kRoundToInteger;
  const V r = (x - k * C::kLn2High) - k * C::kLn2Low;
  const V p = (horner(r, C::exp()) * (r * r) + r) + T{1};
  // Multiplying by 2^k, rather than adding k to the exponent bits of p, lets a NaN of any payload through.
  const V power = __builtin_bit_cast(V, __builtin_bit_cast(Bits, shifted) << C::kMantissaBits);
  return x < C::kMinExponent ? V{} : p * power;
}

template <class V>
struct Logistic {
  V softplus;    // log(1 + e^x)
  V sigmoid;     // 1 / (1 + e^-x)
  V log1p_e;     // log(1 + e^-|x|), the part of softplus beyond max(x, 0)
  V complement;  // 1 / (1 + e^|x|), the smaller of sigmoid(x) and sigmoid(-x), free of cancellation
};

// With e = exp(-|x|):  softplus = max(x, 0) + log1p(e),  sigmoid = (x < 0 ? e : 1) / (1 + e).
// log1p(e) = 2 atanh(s) with s = e / (2 + e) <= 1/3, so one division, 1 / ((1 + e)(2 + e)), serves both.
// What the caller does not read is not computed.
template <class T, class V, class Bits>
FASTNCE_HD Logistic<V> logistic(V x) {
  // -|x|: the sign bit set.
  const Bits sign = Bits{} + LogisticConstants<T>::kSignBit;
  const V e = exp_nonpositive<T, V, Bits>(__builtin_bit_cast(V, __builtin_bit_cast(Bits, x) | sign));
  const V one_plus = e + T{1};
  const V two_plus = e + T{2};
  const V reciprocal = T{1} / (one_plus * two_plus);
  const V s = e * one_plus * reciprocal;
  const V s2 = s * s;
  const V log1p_e = (s + s) + (s + s) * s2 * horner(s2, LogisticConstants<T>::atanh());
  const V inverse = two_plus * reciprocal;  // 1 / (1 + e)
  const V complement = e * inverse;
  const V positive = x < T{0} ? V{} : x;
  return {positive + log1p_e, x < T{0} ? complement : inverse, log1p_e, complement};
}

template <class T>
FASTNCE_HD Logistic<T> logistic(T x) {
  return logistic<T, T, typename LogisticConstants<T>::Bits>(x);
}

template <class V>
struct PositiveTerm {
  V loss;   // softplus(u) - r u
  V slope;  // sigmoid(u) - r
};

// Of a true class with target r in [0, 1], in the order that loses nothing to cancellation when r = 1.
template <class T, class V, class Bits>
FASTNCE_HD PositiveTerm<V> positive_term(V u, V target) {
  const auto of = logistic<T, V, Bits>(u);
  const V positive = u < T{0} ? V{} : u;
  return {(positive - u * target) + of.log1p_e, u > T{0} ? (T{1} - target) - of.complement : of.sigmoid - target};
}

template <class T>
FASTNCE_HD PositiveTerm<T> positive_term(T u, T target) {
  return positive_term<T, T, typename LogisticConstants<T>::Bits>(u, target);
}

}  // namespace fastnce::math
