// Draws of a candidate sampler on the device. Draw k of a stream begins at word k L unless integers before it were
// rejected (math/candidate_stream.h); one block lists those of a round of draws, then any thread can make any draw.
#pragma once

#include <cstdint>

#include "cuda/runtime/device.cuh"
#include "cuda/runtime/warp.cuh"
#include "math/candidate_stream.h"

namespace fastnce::cuda {

// Which draws of a round had integers rejected: their numbers within the round, ascending, each as often as it had.
struct Rejections {
  std::uint32_t* draws;  // [capacity], or null where the distribution rejects none
  std::int64_t* count;
  std::int64_t capacity;
};

// At most a half of all integers is rejected. The odds that a round of this many draws has more are below 2^-900.
constexpr std::int64_t rejection_capacity(std::int64_t draws) { return 4 * draws + 1024; }

// In shared memory, for list_rejections() by a block of this many threads.
template <int kThreads>
struct ListMemory {
  int warp_sums[kThreads / kWarp];
  std::uint32_t candidates[kThreads];  // words, from the first that the block looks at
  std::int64_t found;
};

// Lists the rejections among the draws [begin, begin + count), `before` having come before. By one block of
// kThreads threads; the list may be read after a barrier. Rejected words are rare: one thread walks through them in
// order, since whether a word holds an integer depends on the rejections before it.
template <int kThreads, class D>
FASTNCE_DEVICE void list_rejections(const D& distribution, const math::CandidateStream& stream, std::int64_t begin,
                                    std::int64_t count, std::int64_t before, const Rejections& list,
                                    ListMemory<kThreads>* memory) {
  constexpr int kWords = D::kRetriedWords;
  std::int64_t found = 0;
  for (std::uint64_t at = math::first_word<D>(begin, before); at < math::first_word<D>(begin + count, before + found);
       at += kThreads * kWords) {
    const std::uint64_t own = at + static_cast<std::uint64_t>(thread_index()) * kWords;
    std::uint32_t words[kWords];
    for (int i = 0; i < kWords; ++i) words[i] = stream.word(own + static_cast<std::uint64_t>(i));
    const bool rejected = !distribution.accepts(words);
    const BlockSum sum = sum_over_block<kThreads>(rejected ? 1 : 0, memory->warp_sums);
    if (sum.total == 0) continue;
    if (rejected) memory->candidates[sum.before] = static_cast<std::uint32_t>(own - at);
    sync_block();
    if (thread_index() == 0) {
      for (int i = 0; i < sum.total; ++i) {
        const std::int64_t draw = math::draw_of_integer<D>(at + memory->candidates[i], before + found);
        if (draw < 0) continue;
        if (draw >= begin + count) break;
        if (found < list.capacity) list.draws[found++] = static_cast<std::uint32_t>(draw - begin);
      }
      memory->found = found;
    }
    sync_block();
    found = memory->found;
  }
  if (thread_index() == 0) *list.count = found;
}

// How many of the listed numbers are below `draw`.
FASTNCE_DEVICE std::int64_t rejections_below(const Rejections& list, std::int64_t count, std::int64_t draw) {
  std::int64_t low = 0, high = count;
  while (low < high) {
    const std::int64_t middle = (low + high) / 2;
    if (static_cast<std::int64_t>(list.draws[middle]) < draw) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// Makes draws that follow each other: keeps the block of random words that it read last.
template <class D>
class DrawReader {
 public:
  FASTNCE_DEVICE DrawReader(const D& distribution, const math::CandidateStream& stream)
      : distribution_(distribution), stream_(stream) {}

  // Draw begin + i, `before` rejections having come before draw `begin` and `list` from there on.
  FASTNCE_DEVICE std::int64_t draw(std::int64_t begin, std::int64_t i, std::int64_t before, const Rejections& list) {
    std::int64_t first_rejections = before, all_rejections = before;
    if constexpr (D::kRetriedWords > 0) {
      const std::int64_t listed = *list.count;
      if (listed > 0) {
        first_rejections += rejections_below(list, listed, i);
        all_rejections += rejections_below(list, listed, i + 1);
      }
    }
    const std::uint64_t first = math::first_word<D>(begin + i, first_rejections);
    const std::uint64_t integer = math::first_word<D>(begin + i, all_rejections) + D::kFixedWords;
    std::uint32_t words[math::kWordsPerDraw<D>];
#pragma unroll
    for (int w = 0; w < math::kWordsPerDraw<D>; ++w) {
      words[w] = word(w < D::kFixedWords ? first + static_cast<std::uint64_t>(w)
                                         : integer + static_cast<std::uint64_t>(w - D::kFixedWords));
    }
    return distribution_.id(words, words + D::kFixedWords);
  }

 private:
  FASTNCE_DEVICE std::uint32_t word(std::uint64_t i) {
    if (i / 4 != at_) {
      at_ = i / 4;
      block_ = stream_.block(at_);
    }
    return math::word_of(block_, i % 4);
  }

  const D& distribution_;
  const math::CandidateStream& stream_;
  std::uint64_t at_ = ~std::uint64_t{0};
  math::PhiloxBlock block_;
};

}  // namespace fastnce::cuda
