#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "fastnce/distribution.h"
#include "math/candidate_stream.h"
#include "math/distribution/registry.h"
#include "math/sample_count.h"

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

TEST(UniformInteger, IsTheRemainderOfTheWordsThatItAccepts) {
  std::mt19937_64 random(2);
  std::vector<std::uint64_t> counts = {1, 2, 3, 5, 1000, 1 << 20, (1u << 31) - 1, INT64_MAX, (1ull << 62) + 1};
  for (int i = 0; i < 300; ++i) counts.push_back((random() >> (1 + i % 63)) | 1);
  for (const std::uint64_t n : counts) {
    const UniformInteger<std::uint64_t> wide(n);
    const bool is_power = (n & (n - 1)) == 0;
    const std::uint64_t lowest = is_power ? 0 : ~std::uint64_t{0} % n + 1;
    for (int i = 0; i < 200; ++i) {
      std::uint64_t word = random();
      if (i < 4) word = static_cast<std::uint64_t>(i) - 2;
      if (i < 8 && i >= 4) word = lowest + static_cast<std::uint64_t>(i) - 6;
      ASSERT_EQ(wide(word), static_cast<std::int64_t>(word % n)) << "n = " << n << ", word " << word;
      ASSERT_EQ(wide.accepts(word), word >= lowest) << "n = " << n << ", word " << word;
    }
    if (n >= std::uint64_t{1} << 31) continue;
    const UniformInteger<std::uint32_t> narrow(n);
    const std::uint32_t lowest_narrow = is_power ? 0 : static_cast<std::uint32_t>(0xFFFFFFFFu % n + 1);
    for (int i = 0; i < 200; ++i) {
      const auto word = static_cast<std::uint32_t>(random());
      ASSERT_EQ(narrow(word), static_cast<std::int64_t>(word % n)) << "n = " << n << ", word " << word;
      ASSERT_EQ(narrow.accepts(word), word >= lowest_narrow) << "n = " << n << ", word " << word;
    }
  }
}

TEST(ExpectedCount, OfAnyProbabilityIsTheChanceOfOneDrawAmongTries) {
  std::vector<double> probabilities = {0.0, 1.0, 0.75, 1.0 - 0x1p-24, 0x1p-149};
  for (int i = 1; i < 200; ++i) probabilities.push_back(rounded_to_float32(i / 200.0));
  for (const double p : probabilities) {
    for (const std::int64_t tries : {3, 64, 12'345}) {
      // As TensorFlow rounds.
      const float log = static_cast<float>(std::log1p(-p));
      const double exact = -std::expm1(static_cast<double>(static_cast<float>(tries) * log));
      EXPECT_NEAR(expected_count_of_any(p, 2, tries), exact, exact * 0x1p-48) << "p = " << p << ", tries = " << tries;
    }
    EXPECT_EQ(expected_count_of_any(p, 3, 3), 3 * p);
  }
}

// P(class) by adding up the table, in units of 1 / (n 2^23).
std::vector<double> drawn_shares(const UnigramTable& table) {
  const std::int64_t n = std::ssize(table.weights());
  const std::uint32_t* const entries = table.distribution().unigram.alias_table;
  std::vector<double> shares(static_cast<std::size_t>(n), 0.0);
  for (std::int64_t i = 0; i < n; ++i) {
    shares[i] += entries[2 * i];
    if (entries[2 * i] < kAliasScale) shares[entries[2 * i + 1]] += kAliasScale - entries[2 * i];
  }
  return shares;
}

TEST(AliasTable, GivesEachClassItsShareToTheGridOfTheFloat) {
  std::mt19937 random(3);
  for (const std::size_t n : {1, 2, 3, 100, 5000}) {
    std::vector<float> weights(n);
    for (std::size_t k = 0; k < n; ++k) {
      weights[k] = k % 7 == 3 ? 0.0f : std::exp(static_cast<float>(random() % 100) / 10.0f - 5.0f);
    }
    for (const WeightSums sums : {WeightSums::kFloat64, WeightSums::kFloat32}) {
      const UnigramTable table(weights, sums);
      const std::vector<double> shares = drawn_shares(table);
      double total = 0.0;
      for (const float weight : weights) total += static_cast<double>(weight);
      std::int64_t reachable = 0;
      for (std::size_t k = 0; k < n; ++k) {
        const double exact = weights[k] / total * static_cast<double>(n) * kAliasScale;
        // Each of the n indices rounds by less than 1 upwards; those that alias k take from k what they gained.
        EXPECT_NEAR(shares[k], exact, static_cast<double>(n) + exact * 1e-6) << "class " << k << " of " << n;
        if (weights[k] == 0.0f) {
          EXPECT_EQ(shares[k], 0.0) << "class " << k << " of " << n;
        }
        reachable += shares[k] > 0.0;
      }
      EXPECT_EQ(table.distribution().unigram.reachable, reachable);
    }
  }
}

// The weight is so small that its float32 share is 0.
TEST(AliasTable, CountsNotTheClassesThatItCannotDraw) {
  const UnigramTable table({1.0f, 0.0f, 0x1p-149f, 0x1p-126f});
  EXPECT_EQ(drawn_shares(table)[1], 0.0);
  EXPECT_EQ(table.distribution().unigram.reachable, 3);
}

TEST(StreamStart, ReservesFiveHundredTwelveBlocksPerSample) {
  const PhiloxCounter start = candidate_stream_start(42, 64, 3);
  EXPECT_EQ(start.low, 3u * 512u * 64u);
  EXPECT_EQ(start.high, 42u);
}

TEST(StreamStart, CarriesIntoTheSecondSeed) {
  const PhiloxCounter start = candidate_stream_start(42, 1024, std::uint64_t{1} << 50);
  EXPECT_EQ(start.low, 0u);  // 2^50 * 2^9 * 2^10 = 2^69
  EXPECT_EQ(start.high, 42u + 32u);
}

TEST(StreamStart, FollowsTensorFlowsOverflowBelowTwoToTheTwentyOne) {
  for (const std::int64_t s : {1 << 20, (1 << 20) + 1, (1 << 20) + 12345, 3 << 19, (1 << 21) - 1}) {
    const std::int64_t words = static_cast<std::int32_t>(static_cast<std::uint32_t>(2048 * s));
    const std::uint64_t blocks = static_cast<std::uint64_t>((words + 3) / 4);
    std::array<std::uint32_t, 4> counter{0, 0, 42, 7};
    for (std::uint64_t call = 0; call < 200; ++call) {
      const PhiloxCounter start = candidate_stream_start((std::uint64_t{7} << 32) | 42, s, call);
      ASSERT_EQ(start.low, (std::uint64_t{counter[1]} << 32) | counter[0]) << "S = " << s << ", call " << call;
      ASSERT_EQ(start.high, (std::uint64_t{counter[3]} << 32) | counter[2]) << "S = " << s << ", call " << call;
      counter = tensorflow_skip(counter, blocks);
    }
  }
}

TEST(StreamStart, NeverRepeatsFromTwoToTheTwentyOneOn) {
  for (const std::int64_t s : {1 << 21, 1 << 22, (1 << 21) + 1}) {
    EXPECT_EQ(candidate_stream_start(0, s, 1).low, static_cast<std::uint64_t>(512 * s));
  }
}

}  // namespace
}  // namespace fastnce::math
