#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <string>
#include <vector>

#include "fastnce/distribution.h"
#include "fastnce/error.h"

namespace fastnce {
namespace {

using Weights = std::vector<float>;

template <class Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const InvalidValue& error) {
    return error.what();
  }
  return "";
}

std::string message_of_line(std::string_view text) {
  return message_of([&] { vocabulary_weights(text, "words.csv", {}); });
}

TEST(UnigramWeights, AreThePowersOfTheUnigrams) {
  const float unigrams[] = {4.0f, 0.0f, 9.0f};
  EXPECT_EQ(unigram_weights(unigrams, "unigrams", {}), (Weights{4.0f, 0.0f, 9.0f}));
  EXPECT_EQ(unigram_weights(unigrams, "unigrams", {.distortion = 0.5f}), (Weights{2.0f, 0.0f, 3.0f}));
  EXPECT_EQ(unigram_weights(unigrams, "unigrams", {.distortion = 0.0f}), (Weights{1.0f, 1.0f, 1.0f}));
}

// The first unigram has the number of the reserved ids of the shard, as in TensorFlow, not num_reserved_ids.
TEST(UnigramWeights, OfAShardBeginWithItsReservedIds) {
  const float unigrams[] = {1.0f, 2.0f, 3.0f, 4.0f, 5.0f};
  EXPECT_EQ(unigram_weights(unigrams, "u", {.num_reserved_ids = 2}),
            (Weights{0.0f, 0.0f, 1.0f, 2.0f, 3.0f, 4.0f, 5.0f}));
  // Reserved words 0, 2, 4 of shard 0: unigrams have the numbers from 3 on.
  EXPECT_EQ(unigram_weights(unigrams, "u", {.num_reserved_ids = 5, .num_shards = 2, .shard = 0}),
            (Weights{0.0f, 0.0f, 0.0f, 2.0f, 4.0f}));
  EXPECT_EQ(unigram_weights(unigrams, "u", {.num_reserved_ids = 5, .num_shards = 2, .shard = 1}),
            (Weights{0.0f, 0.0f, 2.0f, 4.0f}));
  EXPECT_EQ(unigram_weights(unigrams, "u", {.num_reserved_ids = 1, .num_shards = 3, .shard = 2}), (Weights{3.0f}));
}

TEST(UnigramWeights, MustBeFiniteNumbersOfAtLeastZero) {
  const auto message = [](float unigram, float distortion) {
    const float unigrams[] = {1.0f, unigram};
    return message_of([&] { unigram_weights(unigrams, "unigrams", {.distortion = distortion}); });
  };
  EXPECT_EQ(message(-1.0f, 2.0f), "unigrams[1] = -1: expected a finite number of at least 0");
  EXPECT_EQ(message(std::numeric_limits<float>::quiet_NaN(), 0.0f),
            "unigrams[1] = nan: expected a finite number of at least 0");
  EXPECT_EQ(message(std::numeric_limits<float>::infinity(), 1.0f),
            "unigrams[1] = inf: expected a finite number of at least 0");
  EXPECT_EQ(message(0.0f, -1.0f), "unigrams[1] = 0 to the power of distortion = -1 is inf: expected a finite number");
}

TEST(UnigramWeights, NeedOptionsInRange) {
  const auto message = [](const UnigramOptions& options) {
    return message_of([&] { unigram_weights({}, "unigrams", options); });
  };
  EXPECT_EQ(message({.num_shards = 0}), "num_shards = 0: expected at least 1");
  EXPECT_EQ(message({.num_shards = 2, .shard = 2}), "shard = 2 is outside [0, num_shards = 2)");
  EXPECT_EQ(message({.num_shards = 2, .shard = -1}), "shard = -1 is outside [0, num_shards = 2)");
  EXPECT_EQ(message({.num_reserved_ids = -1}), "num_reserved_ids = -1: expected 0 to 2147483647");
  EXPECT_EQ(message({.distortion = std::numeric_limits<float>::infinity()}),
            "distortion = inf: expected a finite number");
}

TEST(VocabularyWeights, AreTheNumbersAfterTheLastCommas) {
  EXPECT_EQ(vocabulary_weights("the,10\nof,2.5\n\"q,z\",4\n3", "f", {}), (Weights{10.0f, 2.5f, 4.0f, 3.0f}));
  EXPECT_EQ(vocabulary_weights("a,1\r\n\r\n\nb,2\r\n", "f", {}), (Weights{1.0f, 2.0f}));
  EXPECT_EQ(vocabulary_weights("a,1\r2", "f", {}), (Weights{12.0f}));  // carriage returns vanish
  EXPECT_EQ(vocabulary_weights(" 4e0 \n,+1\n0x10\n1e-60\n\t7\v\n.5\n5.", "f", {}),
            (Weights{4.0f, 1.0f, 16.0f, 0.0f, 7.0f, 0.5f, 5.0f}));
  EXPECT_EQ(vocabulary_weights("0.1000000014901161193847656250000000001", "f", {}), Weights{0.1f});  // rounded once
}

TEST(VocabularyWeights, SkipEmptyLinesAndTheWordsOfOtherShards) {
  EXPECT_EQ(vocabulary_weights("1\n\nnonsense\n3\nmore\n5", "f", {.num_shards = 2, .shard = 0}),
            (Weights{1.0f, 3.0f, 5.0f}));
}

TEST(VocabularyWeights, NameFileLineAndWhatStandsThere) {
  EXPECT_EQ(message_of_line("a,1\n\nb,x\n"), "words.csv, line 3, 'b,x': expected a number after the last comma");
  EXPECT_EQ(message_of_line("a,1\nb,-2\n"), "words.csv, line 2, 'b,-2' = -2: expected a finite number of at least 0");
  for (const char* line : {"++1", "+-1", "-+1", "1f", "1_000", "a,", "  ", "1 2", "0x", "0x1.8", "0xg", "+", "-", ".",
                           "e5", "1e", "--1", "0x1p3", "0x-1"}) {
    EXPECT_EQ(message_of_line(line), concat("words.csv, line 1, '", line, "': expected a number after the last comma"));
  }
  for (const char* line : {"inf", "nan", "-inf", "1e40", "Infinity", "NAN", "-1e5000"}) {
    EXPECT_NE(message_of_line(line).find("expected a finite number of at least 0"), std::string::npos) << line;
  }
}

// However far a number is beyond the range of float.
TEST(VocabularyWeights, RoundNumbersOutOfRangeToZeroAndInfinity) {
  const std::string zeros(6000, '0');
  const std::string small[] = {"1e-46",   "1e-400",    "1e-5000",  "1e-99999999999999999999", "0." + zeros + "1",
                               "0e99999", "100e-6000", "-1e-5000", "." + zeros + "1e+7"};
  for (const std::string& number : small) {
    EXPECT_EQ(vocabulary_weights(number + "\n1", "f", {}), (Weights{0.0f, 1.0f})) << number;
  }
  const std::string large[] = {"1e39",       "1e400",
                               "1e5000",     "1e+99999999999999999999",
                               "1" + zeros,  "1" + zeros + ".5e-7",
                               "0.001e6000", "0x" + std::string(40, 'f')};
  for (const std::string& number : large) {
    EXPECT_NE(message_of_line(number).find("' = inf: expected a finite number of at least 0"), std::string::npos)
        << number;
  }
  EXPECT_EQ(vocabulary_weights("1" + zeros + "e-6000", "f", {}), (Weights{1.0f}));
  EXPECT_EQ(vocabulary_weights("0X10000000000000000", "f", {}), (Weights{0x1p64f}));
}

TEST(VocabularyWeights, NameAFileWithoutWords) {
  for (const char* text : {"", "\n\n", "\r\n"}) {
    EXPECT_EQ(message_of_line(text), "words.csv has no words: expected a number on at least one line");
  }
  EXPECT_EQ(message_of([] { vocabulary_weights("1\n", "words.csv", {.num_shards = 2, .shard = 1}); }),
            "words.csv has no words of shard 1: expected a number on at least one line");
}

// A byte order mark, a tab where a comma should be, a file that is no text.
TEST(VocabularyWeights, QuoteTheBeginningOfALineInAscii) {
  EXPECT_EQ(message_of_line("\xEF\xBB\xBF"
                            "1"),
            "words.csv, line 1, '\\xef\\xbb\\xbf1': expected a number after the last comma");
  EXPECT_EQ(message_of_line("a\t1"), "words.csv, line 1, 'a\\x091': expected a number after the last comma");
  EXPECT_EQ(message_of_line(std::string(61, 'a')),
            "words.csv, line 1, '" + std::string(60, 'a') + "...': expected a number after the last comma");
}

TEST(UnigramTable, RefusesWeightsThatCannotBeDrawn) {
  const auto message = [](Weights weights, WeightSums sums = WeightSums::kFloat64) {
    return message_of([&] { const UnigramTable table(std::move(weights), sums); });
  };
  EXPECT_EQ(message({}), "a table of 0 classes: expected 1 to 2147483647");
  EXPECT_EQ(message({0.0f, 0.0f}), "weights: all 2 are 0: expected at least one above 0");
  EXPECT_EQ(message({1.0f, -2.0f}), "weights[1] = -2: expected a finite number of at least 0");
  EXPECT_EQ(message({3e38f, 1.0f}), "weights[0] = 3e+38 is too large for 2 classes: expected at most 1.70141e+38");
  EXPECT_EQ(message(Weights(3, 1e38f)), "");
}

TEST(LearnedWeights, RefusesWhatIsNoWeight) {
  EXPECT_EQ(message_of([] { const LearnedWeights weights(0); }),
            "range_max = 0: expected 1 to 2147483647 for learned_unigram");
  EXPECT_EQ(message_of([] { const LearnedWeights weights(std::vector<std::int32_t>{1, 0}); }),
            "weights[1] = 0: expected at least 1");
  EXPECT_EQ(message_of([] { const LearnedWeights weights(std::vector<std::int32_t>{INT32_MAX, 1}); }),
            "weights add up to more than 2147483647 at weights[1]");
}

TEST(Distribution, IsKnownByName) {
  EXPECT_EQ(distribution_named("uniform", 7).range_max, 7);
  EXPECT_EQ(message_of([] { distribution_named("zipf", 7); }),
            "distribution = 'zipf': expected one of 'log_uniform', 'uniform', 'learned_unigram', 'all'");
  EXPECT_EQ(message_of([] { distribution_named("uniform", 7, std::array{0.5}); }),
            "distribution = 'uniform': got 1 parameters, expected 0");
}

}  // namespace
}  // namespace fastnce
