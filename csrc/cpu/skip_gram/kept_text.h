// What subsampling leaves of a part of the text, with the windows of its positions.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/runtime/parallel.h"
#include "cpu/skip_gram/skip_gram.h"

namespace fastnce::cpu {

// Id t of the run has the words 2 (t mod 2) and the next of Philox block t div 2 of a stream: whether it is kept, and
// its reach.
class KeptText {
 public:
  explicit KeptText(const SkipGramCall& call) : call_(call) {}

  // Reads these ids in place of those before.
  void read(Range ids);

  std::int64_t size = 0;   // kept positions
  std::int64_t pairs = 0;  // of centre and context

  // Of each position: its id's index in the text, and how many contexts it has on each side.
  std::vector<std::int64_t> ids;
  std::vector<std::int32_t> to_left, to_right;

  // Of positions [-window, size + window). Outside of [0, size) words are -1.
  const std::int32_t* words() const { return words_.data() + call_.options->window; }
  const float* terms() const { return terms_.data() + call_.options->window; }

 private:
  void add(Range ids, const std::uint32_t* random);
  void end_paragraph();

  const SkipGramCall& call_;
  std::int64_t paragraph_ = 0;  // the position that it began with
  std::vector<std::int32_t> words_;
  std::vector<float> terms_;
};

}  // namespace fastnce::cpu
