#include "math/log_uniform.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <random>

namespace fastnce::math {
namespace {

// 2^64 - n and the addition of it to a 128-bit counter of four words, with the carry that TensorFlow loses.
std::array<std::uint32_t, 4> tensorflow_skip(std::array<std::uint32_t, 4> counter, std::uint64_t blocks) {
  const std::uint32_t low = static_cast<std::uint32_t>(blocks);
  std::uint32_t high = static_cast<std::uint32_t>(blocks >> 32);
  counter[0] += low;
  if (counter[0] < low) ++high;
  counter[1] += high;
  if (counter[1] < high && ++counter[2] == 0) ++counter[3];
  return counter;
}

TEST(ExpReproducible, AgreesWithTheCLibraryOnProcessorsWithFma) {
  // Other C libraries may round differently in the last bit: allow that, but nothing more.
  std::mt19937_64 random(1);
  int different = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    const double x = static_cast<double>(random() >> 11) * 0x1p-53 * 44.0;
    const double ours = exp_reproducible(x);
    const double theirs = std::exp(x);
    different += ours != theirs;
    ASSERT_LE(std::abs(ours - theirs), std::nextafter(theirs, INFINITY) - theirs) << "x = " << x;
  }
  EXPECT_LE(different, 1000);
}

TEST(ExpReproducible, IsExactWhereTheResultIs) { EXPECT_EQ(exp_reproducible(0.0), 1.0); }

TEST(LogUniform, IdsStayInRangeAtTheEndsOfTheUnitInterval) {
  for (const std::int64_t v : {std::int64_t{1}, std::int64_t{2}, std::int64_t{1000}, INT64_MAX}) {
    EXPECT_EQ(log_uniform_id(0.0, log_uniform_log_range(v), v), 0);
    const std::int64_t last = log_uniform_id(1.0 - 0x1p-52, log_uniform_log_range(v), v);
    EXPECT_GE(last, 0);
    EXPECT_LT(last, v);
  }
}

TEST(LogUniform, ProbabilitiesSumToOne) {
  constexpr std::int64_t kClasses = 10'000;
  const double log_range = log_uniform_log_range(kClasses);
  double sum = 0.0;
  for (std::int64_t k = 0; k < kClasses; ++k) sum += log_uniform_probability(static_cast<double>(k), log_range);
  EXPECT_NEAR(sum, 1.0, 1e-6);
}

TEST(LogUniform, ProbabilityIsThatOfTheRoundedQuotient) {
  for (std::int64_t id = 0; id < std::int64_t{1} << 60; id += id / 100 + 1) {
    const double k = static_cast<double>(id);
    const double exact = std::log((k + 2.0) / (k + 1.0));
    EXPECT_NEAR(log_uniform_probability(k, 2.0), exact / 2.0, exact * 0x1.01p-25) << "k = " << k;
  }
}

TEST(LogUniform, ExpectedCountIsLinearWithoutRejections) {
  EXPECT_EQ((expected_count<double, std::int64_t>(0.25, 8, 8)), 2.0);
}

TEST(LogUniform, ExpectedCountIsTheChanceOfOneDrawAmongTries) {
  for (int i = 0; i < 120; ++i) {
    const double p = 0.631 * std::pow(0.7, i);
    const double probability = rounded_to_float32(p);
    for (const std::int64_t tries : {2, 3, 64, 1'000, 12'345, 10'000'000}) {
      // As TensorFlow rounds, so that only the logarithm's and the exponential's own errors are tested.
      const float log = static_cast<float>(std::log1p(-probability));
      const double exact = -std::expm1(static_cast<double>(static_cast<float>(tries) * log));
      const double count = expected_count<double, std::int64_t>(probability, 1, tries);
      EXPECT_NEAR(count, exact, exact * 0x1p-48) << "p = " << p << ", tries = " << tries;
    }
  }
}

TEST(StreamStart, ReservesFiveHundredTwelveBlocksPerSample) {
  const PhiloxCounter start = log_uniform_stream_start(42, 64, 3);
  EXPECT_EQ(start.low, 3u * 512u * 64u);
  EXPECT_EQ(start.high, 42u);
}

TEST(StreamStart, CarriesIntoTheSecondSeed) {
  const PhiloxCounter start = log_uniform_stream_start(42, 1024, std::uint64_t{1} << 50);
  EXPECT_EQ(start.low, 0u);  // 2^50 * 2^9 * 2^10 = 2^69
  EXPECT_EQ(start.high, 42u + 32u);
}

TEST(StreamStart, FollowsTensorFlowsOverflowBelowTwoToTheTwentyOne) {
  for (const std::int64_t s : {1 << 20, (1 << 20) + 1, (1 << 20) + 12345, 3 << 19, (1 << 21) - 1}) {
    const std::int64_t words = static_cast<std::int32_t>(static_cast<std::uint32_t>(2048 * s));
    const std::uint64_t blocks = static_cast<std::uint64_t>((words + 3) / 4);
    std::array<std::uint32_t, 4> counter{0, 0, 42, 7};
    for (std::uint64_t call = 0; call < 200; ++call) {
      const PhiloxCounter start = log_uniform_stream_start((std::uint64_t{7} << 32) | 42, s, call);
      ASSERT_EQ(start.low, (std::uint64_t{counter[1]} << 32) | counter[0]) << "S = " << s << ", call " << call;
      ASSERT_EQ(start.high, (std::uint64_t{counter[3]} << 32) | counter[2]) << "S = " << s << ", call " << call;
      counter = tensorflow_skip(counter, blocks);
    }
  }
}

TEST(StreamStart, NeverRepeatsFromTwoToTheTwentyOneOn) {
  for (const std::int64_t s : {1 << 21, 1 << 22, (1 << 21) + 1}) {
    EXPECT_EQ(log_uniform_stream_start(0, s, 1).low, static_cast<std::uint64_t>(512 * s));
  }
}

}  // namespace
}  // namespace fastnce::math
