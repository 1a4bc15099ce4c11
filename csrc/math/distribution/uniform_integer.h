// Exactly uniform integers in [0, n) from random words of 32 or 64 bits, as TensorFlow draws them: words below
// 2^bits mod n are rejected, so that every remainder is equally likely.
#pragma once

#include <cstdint>

#include "math/hd.h"

namespace fastnce::math {

template <class Word>  // std::uint32_t or std::uint64_t
struct UniformInteger {
  // n >= 1; below 2^63.
  explicit UniformInteger(std::uint64_t n)
      : count(n),
        inverse(~std::uint64_t{0} / n),
        lowest((n & (n - 1)) == 0 ? Word{0} : static_cast<Word>(static_cast<Word>(~Word{0}) % n + 1)) {}

  FASTNCE_HD bool accepts(Word word) const { return word >= lowest; }

  // word mod n. With inverse = floor((2^64 - 1) / n) the estimate of the quotient is right or one too small.
  FASTNCE_HD std::int64_t operator()(Word word) const {
    const std::uint64_t quotient = static_cast<std::uint64_t>((static_cast<unsigned __int128>(word) * inverse) >> 64);
    const std::uint64_t rest = word - quotient * count;
    return static_cast<std::int64_t>(rest >= count ? rest - count : rest);
  }

  std::uint64_t count;
  std::uint64_t inverse;
  Word lowest;
};

}  // namespace fastnce::math
