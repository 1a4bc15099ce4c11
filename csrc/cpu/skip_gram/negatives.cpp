#include "cpu/skip_gram/negatives.h"

#include <algorithm>

#include "math/philox.h"

namespace fastnce::cpu {

Negatives::Negatives(const SkipGramCall& call)
    : call_(call),
      distribution_(call.negatives),
      samples_(call.samples),
      random_(static_cast<std::size_t>(2 * samples_)),
      classes_(static_cast<std::size_t>(2 * samples_)) {
  if (call.options->loss != SkipGramLoss::kNegativeSampling) terms_.resize(static_cast<std::size_t>(2 * samples_));
}

void Negatives::prepare(std::int64_t id) {
  const std::uint64_t place = call_.text.place + static_cast<std::uint64_t>(id);
  const auto blocks = static_cast<std::uint64_t>(samples_ / 2);
  for (std::uint64_t i = 0; i < blocks; ++i) {
    const math::PhiloxBlock block = math::philox4x32(call_.options->seed, {place * blocks + i, kNegativeStream});
    std::copy_n(block.word, 4, random_.data() + 4 * i);
    for (const std::uint32_t word : {block.word[1], block.word[3]}) {
      __builtin_prefetch(distribution_.table + 2 * distribution_.integer(word));
    }
  }
}

const std::int32_t* Negatives::take() {
  turn_ = 1 - turn_;
  std::int32_t* const classes = classes_.data() + turn_ * samples_;
  for (std::int64_t s = 0; s < samples_; ++s) {
    const std::uint32_t* const random = random_.data() + 2 * s;
    classes[s] = static_cast<std::int32_t>(distribution_.id(random, random + 1));
  }
  if (!terms_.empty()) {
    std::transform(classes, classes + samples_, terms_.data() + turn_ * samples_,
                   [&](std::int32_t word) { return call_.words[word].term; });
  }
  return classes;
}

}  // namespace fastnce::cpu
