// The negatives of blocks, drawn ahead of their use.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/skip_gram/skip_gram.h"
#include "math/distribution/unigram.h"

namespace fastnce::cpu {

// The block of positions that begins with id t of the run has the S / 2 Philox blocks from t S / 2 on of a stream, two
// words for each negative, as the unigram sampler reads them, but that no word is rejected: shares are off by at most
// V / 2^32.
class Negatives {
 public:
  explicit Negatives(const SkipGramCall& call);

  // Draws the words of the block that begins with this id of the text, and asks for what they look up.
  void prepare(std::int64_t id);

  // The classes [S] of the block that was prepared; they stay until the next but one is taken.
  const std::int32_t* take();

  // Of the classes that were taken last; null if losses have none.
  const float* terms() const { return terms_.empty() ? nullptr : terms_.data() + turn_ * samples_; }

 private:
  const SkipGramCall& call_;
  const math::Unigram distribution_;
  std::int64_t samples_, turn_ = 0;
  std::vector<std::uint32_t> random_;  // [S, 2]
  std::vector<std::int32_t> classes_;  // [2, S]
  std::vector<float> terms_;           // [2, S]
};

}  // namespace fastnce::cpu
