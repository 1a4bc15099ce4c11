#include "math/loss/logistic.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace fastnce::math {
namespace {

template <class T>
class LogisticTest : public ::testing::Test {
 protected:
  static double ulps(T value, long double exact) {
    const T rounded = static_cast<T>(exact);
    const long double ulp = static_cast<long double>(std::nextafter(rounded, std::numeric_limits<T>::infinity())) -
                            static_cast<long double>(rounded);
    return static_cast<double>(std::abs((value - exact) / ulp));
  }
};

using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(LogisticTest, Types);

TYPED_TEST(LogisticTest, KeepsItsStatedErrorOverTheNormalRange) {
  using T = TypeParam;
  constexpr int kPoints = 200'000;
  for (const T limit : {T{1}, T{20}, -LogisticConstants<T>::kMinExponent * T(0.999)}) {
    for (int i = -kPoints; i <= kPoints; ++i) {
      const T x = limit * static_cast<T>(i) / kPoints;
      const long double e = std::exp(-std::abs(static_cast<long double>(x)));
      const Logistic<T> got = logistic(x);
      const long double sigmoid = (x < 0 ? e : 1.0L) / (1.0L + e);
      ASSERT_LE(this->ulps(got.softplus, (x > 0 ? x : 0) + std::log1p(e)), kSoftplusMaxUlp) << "x = " << x;
      ASSERT_LE(this->ulps(got.sigmoid, sigmoid), kSigmoidMaxUlp) << "x = " << x;
      ASSERT_LE(this->ulps(got.log1p_e, std::log1p(e)), kSoftplusMaxUlp) << "x = " << x;
      ASSERT_LE(this->ulps(got.complement, e / (1.0L + e)), kSigmoidMaxUlp) << "x = " << x;
    }
  }
}

TYPED_TEST(LogisticTest, IsExactAtTheExtremes) {
  using T = TypeParam;
  const T infinity = std::numeric_limits<T>::infinity();
  for (const T low : {-infinity, T{-1e30}}) {
    EXPECT_EQ(logistic(low).softplus, T{0});
    EXPECT_EQ(logistic(low).sigmoid, T{0});
  }
  for (const T high : {infinity, T{1e30}}) {
    EXPECT_EQ(logistic(high).softplus, high);
    EXPECT_EQ(logistic(high).sigmoid, T{1});
  }
  EXPECT_EQ(logistic(T{0}).sigmoid, T(0.5));
}

TYPED_TEST(LogisticTest, LetsNanOfAnyPayloadThrough) {
  for (const char* payload : {"0", "1", "1954", "2097151", "4194303", "2251799813685247"}) {
    const auto nan =
        sizeof(TypeParam) == 4 ? static_cast<TypeParam>(std::nanf(payload)) : static_cast<TypeParam>(std::nan(payload));
    const auto got = logistic(nan);
    EXPECT_TRUE(std::isnan(got.softplus));
    EXPECT_TRUE(std::isnan(got.sigmoid));
    EXPECT_TRUE(std::isnan(got.complement));
  }
}

}  // namespace
}  // namespace fastnce::math
