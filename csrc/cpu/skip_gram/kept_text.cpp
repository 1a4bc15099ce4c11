#include "cpu/skip_gram/kept_text.h"

#include <algorithm>

#include "math/philox.h"

namespace fastnce::cpu {

void KeptText::read(Range part) {
  constexpr std::int64_t kIdsAtOnce = 256;
  constexpr std::size_t kReadBeyond = 64;  // kernels read terms by whole vectors
  const auto none = static_cast<std::size_t>(call_.options->window);
  const auto most = static_cast<std::size_t>(part.size());
  ids.resize(most);
  to_left.resize(most);
  to_right.resize(most);
  words_.assign(most + 2 * none, -1);
  terms_.resize(most + 2 * none + kReadBeyond);
  size = pairs = paragraph_ = 0;
  for (std::int64_t begin = part.begin; begin < part.end; begin += kIdsAtOnce) {
    // Random words come first. The loop that looks words up in a table beyond the L1 cache is then so short that the
    // processor waits for many of them at once.
    const std::int64_t end = std::min(begin + kIdsAtOnce, part.end);
    const std::uint64_t place = call_.text.place + static_cast<std::uint64_t>(begin);
    const auto count = static_cast<std::uint64_t>(end - begin);
    std::uint32_t random[2 * kIdsAtOnce + 4];
    for (std::uint64_t i = 0; i < (place % 2 + count + 1) / 2; ++i) {
      const math::PhiloxBlock block = math::philox4x32(call_.options->seed, {place / 2 + i, kTextStream});
      std::copy_n(block.word, 4, random + 4 * i);
    }
    add({begin, end}, random + 2 * (place % 2));
  }
  end_paragraph();
  std::fill_n(words_.begin() + static_cast<std::int64_t>(none) + size, none, -1);
}

void KeptText::add(Range part, const std::uint32_t* random) {
  const std::int32_t* const text = call_.text.ids.data();
  const auto window = static_cast<std::uint64_t>(call_.options->window);
  std::int32_t* const words = words_.data() + window;
  float* const terms = terms_.data() + window;
  std::int64_t kept = size;
  for (std::int64_t i = part.begin; i < part.end; ++i, random += 2) {
    const std::int32_t word = text[i];
    if (word < 0) {
      size = kept;
      end_paragraph();
      continue;
    }
    // No branch: one that nothing predicts costs more than it saves.
    const SkipGramWord& of_word = call_.words[word];
    words[kept] = word;
    terms[kept] = of_word.term;
    ids[static_cast<std::size_t>(kept)] = i;
    to_left[static_cast<std::size_t>(kept)] = static_cast<std::int32_t>((random[1] * window) >> 32) + 1;
    kept += random[0] <= of_word.keep ? 1 : 0;
  }
  size = kept;
}

// Ends windows, until now as far as they reach.
void KeptText::end_paragraph() {
  for (std::int64_t i = paragraph_; i < size; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const std::int64_t reach = to_left[at];
    const std::int64_t left = std::min(reach, i - paragraph_), right = std::min(reach, size - 1 - i);
    to_left[at] = static_cast<std::int32_t>(left);
    to_right[at] = static_cast<std::int32_t>(right);
    pairs += left + right;
  }
  paragraph_ = size;
}

}  // namespace fastnce::cpu
