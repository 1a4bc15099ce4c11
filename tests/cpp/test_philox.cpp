#include "math/philox.h"

#include <gtest/gtest.h>

#include <array>

namespace fastnce::math {
namespace {

std::array<std::uint32_t, 4> words(std::uint64_t key, PhiloxCounter counter) {
  const PhiloxBlock block = philox4x32(key, counter);
  return {block.word[0], block.word[1], block.word[2], block.word[3]};
}

using Words = std::array<std::uint32_t, 4>;

TEST(Philox, GivesTheKnownAnswersOfItsPaper) {
  EXPECT_EQ(words(0, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr std::uint64_t kOnes = ~std::uint64_t{0};
  EXPECT_EQ(words(kOnes, {kOnes, kOnes}), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

TEST(Philox, KeyedByBothSeedsGivesTensorFlowsFirstBlocks) {
  EXPECT_EQ(words(1, {0, 2}), (Words{0xe73404cf, 0x8cedc5d3, 0x3f071736, 0x0a0afddd}));
  EXPECT_EQ(words(1, {1, 2}), (Words{0xb7b4c173, 0xdb04b052, 0x44541f91, 0x0e0b3cf3}));
}

TEST(Philox, AdvancingCarriesIntoTheHighHalf) {
  const PhiloxCounter counter = advanced({~std::uint64_t{0} - 1, 7}, 5);
  EXPECT_EQ(counter.low, 3u);
  EXPECT_EQ(counter.high, 8u);
}

TEST(Philox, UniformDoubleTakesItsHighBitsFromTheFirstWord) {
  EXPECT_EQ(uniform_double(0, 0), 0.0);
  EXPECT_EQ(uniform_double(0x80000, 0), 0.5);
  EXPECT_EQ(uniform_double(0xFFFFFFFF, 0xFFFFFFFF), 1.0 - 0x1p-52);
}

}  // namespace
}  // namespace fastnce::math
