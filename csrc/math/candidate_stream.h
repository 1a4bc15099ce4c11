// The random words of one call of a candidate sampler: where they begin, and where each draw finds its own.
//
// A draw takes kFixedWords words, then an integer of kRetriedWords words, which is drawn again as long as the
// distribution rejects it (TensorFlow makes integers exactly uniform that way). Without rejections draw k begins at
// word k L, L = kFixedWords + kRetriedWords, and each rejection before it moves it by kRetriedWords.
#pragma once

#include <cstdint>

#include "math/hd.h"
#include "math/philox.h"

namespace fastnce::math {

// Where call number `call` (from 0) of the sampler (seed2, S) starts. Each call reserves 2048 words, 512 blocks, per
// sample: far more than it draws, so that calls do not overlap.
//
// TensorFlow computes 2048 S in 32 bits. For S in [2^20, 2^21) the product is negative, the blocks to skip become
// 2^64 - n, and its counter loses the carry of that addition out of the second word: the low half steps back by n, the
// high half goes up at each borrow between words 0 and 1, save the first, at which word 1 is still 0. Followed here to
// the letter. From S = 2^21 on the truncated product makes calls overlap or repeat; those reserve the full 512 S.
FASTNCE_HD PhiloxCounter candidate_stream_start(std::uint64_t seed2, std::int64_t num_sampled, std::uint64_t call) {
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

// Word i of a block, without an index into registers, which a GPU does not have.
FASTNCE_HD std::uint32_t word_of(const PhiloxBlock& block, std::uint64_t i) {
  const std::uint32_t low = i == 0 ? block.word[0] : block.word[1];
  const std::uint32_t high = i == 2 ? block.word[2] : block.word[3];
  return i < 2 ? low : high;
}

// The words of one call.
struct CandidateStream {
  std::uint64_t key;  // the first seed
  PhiloxCounter start;

  FASTNCE_HD PhiloxBlock block(std::uint64_t i) const { return philox4x32(key, advanced(start, i)); }
  FASTNCE_HD std::uint32_t word(std::uint64_t i) const { return word_of(block(i / 4), i % 4); }
};

template <class D>
inline constexpr int kWordsPerDraw = D::kFixedWords + D::kRetriedWords;

// The first word of draw k, `rejections` of integers having come before it.
template <class D>
FASTNCE_HD std::uint64_t first_word(std::int64_t k, std::int64_t rejections) {
  return static_cast<std::uint64_t>(k * kWordsPerDraw<D> + rejections * D::kRetriedWords);
}

// The draw whose integer begins at word `word`, `rejections` having come before it, or -1 where no integer does. A word
// that the distribution rejects is a rejection only there.
template <class D>
FASTNCE_HD std::int64_t draw_of_integer(std::uint64_t word, std::int64_t rejections) {
  const std::int64_t at = static_cast<std::int64_t>(word) - rejections * D::kRetriedWords;
  return at % kWordsPerDraw<D> == D::kFixedWords ? at / kWordsPerDraw<D> : -1;
}

}  // namespace fastnce::math
