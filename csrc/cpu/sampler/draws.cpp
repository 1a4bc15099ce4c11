// Draw k begins at word k L as long as no integer is rejected, so draws are made anywhere in the stream. Threads make
// them on this assumption and note words that would be rejected as integers. Usually there are none. Otherwise a walk
// over these words, in order, finds which of them do hold integers, and the draws from the first rejection on are made
// again, on threads, in the places where the rejections have moved them. Ids are those of a walk through the stream.
#include "cpu/sampler/draws.h"

#include <algorithm>
#include <span>
#include <vector>

#include "cpu/runtime/parallel.h"
#include "cpu/sampler/sampler_kernels.h"
#include "math/distribution/registry.h"

namespace fastnce::cpu {

namespace {

using math::CandidateStream;
// Draws between two polls for an interrupt. One takes 5 to 20 ns, but microseconds in the tree of learned weights of
// many classes, whose nodes come from memory one after the other.
constexpr std::int64_t kDrawsAtOnce = std::int64_t{1} << 13;

using Words = std::vector<std::uint64_t>;  // positions in the stream, ascending

// Calls use(words, position of the first, count) for the words [first, first + count) of the stream, at most some
// hundred at a time; each time but the last a multiple of `step` words.
template <class Use>
void read_words(const CandidateStream& stream, std::uint64_t first, std::uint64_t count, int step, const Use& use) {
  constexpr std::uint64_t kBlocks = 64;
  std::uint32_t buffer[4 * kBlocks];
  const auto unit = static_cast<std::uint64_t>(step);
  while (count > 0) {
    const std::uint64_t offset = first % 4;
    const std::uint64_t size = std::min(count, (4 * kBlocks - offset) / unit * unit);
    for (std::uint64_t i = 0; i < (offset + size + 3) / 4; ++i) {
      const math::PhiloxBlock block = stream.block(first / 4 + i);
      for (std::uint64_t j = 0; j < 4; ++j) buffer[4 * i + j] = block.word[j];
    }
    use(buffer + offset, first, size);
    first += size;
    count -= size;
  }
}

// Adds the words among these at which an integer would be rejected.
template <class D>
void note_rejected(const D& distribution, const std::uint32_t* words, std::uint64_t first, std::uint64_t count,
                   Words& rejected) {
  bool any = false;
  for (std::uint64_t i = 0; i < count; i += D::kRetriedWords) any |= !distribution.accepts(words + i);
  if (!any) return;
  for (std::uint64_t i = 0; i < count; i += D::kRetriedWords) {
    if (!distribution.accepts(words + i)) rejected.push_back(first + i);
  }
}

// Writes the draws [draws.begin, draws.end), none of whose integers is rejected, `rejections` having come before, and
// notes in `rejected` what contradicts that, unless it is null.
template <class D>
void draw(const D& distribution, const CandidateStream& stream, Range draws, std::int64_t rejections, Words* rejected,
          std::int64_t* ids) {
  constexpr int kWords = math::kWordsPerDraw<D>;
  read_words(stream, math::first_word<D>(draws.begin, rejections), static_cast<std::uint64_t>(draws.size() * kWords),
             kWords, [&](const std::uint32_t* words, std::uint64_t first, std::uint64_t count) {
               for (std::uint64_t i = 0; i < count; i += kWords) {
                 *ids++ = distribution.id(words + i, words + i + D::kFixedWords);
               }
               if constexpr (D::kRetriedWords > 0) {
                 if (rejected != nullptr) note_rejected(distribution, words, first, count, *rejected);
               }
             });
}

// Its draws are a kernel of each instruction set.
void draw(const math::LogUniform& distribution, const CandidateStream& stream, Range draws, std::int64_t, Words*,
          std::int64_t* ids) {
  sampler_kernels(current_isa())
      .log_uniform_draws(stream.key, stream.start, static_cast<std::uint64_t>(draws.begin), draws.size(),
                         distribution.log_range, distribution.range_max, ids);
}

void draw(const math::All&, const CandidateStream&, Range draws, std::int64_t, Words*, std::int64_t* ids) {
  for (std::int64_t i = draws.begin; i < draws.end; ++i) *ids++ = i;
}

// The draws among `draws` whose integers are rejected, ascending, each as often as it is, where `before` rejections
// came before and `rejected` holds what was noted in the words that the draws take without rejections.
template <class D>
std::vector<std::int64_t> find_rejections(const D& distribution, const CandidateStream& stream, Range draws,
                                          std::int64_t before, Words& rejected) {
  std::vector<std::int64_t> rejections;
  const auto so_far = [&] { return before + std::ssize(rejections); };
  std::uint64_t end = math::first_word<D>(draws.end, before);  // of the words that have been read
  for (std::size_t i = 0;;) {
    for (; i < rejected.size(); ++i) {
      const std::int64_t draw = math::draw_of_integer<D>(rejected[i], so_far());
      if (draw >= 0) rejections.push_back(draw);
    }
    const std::uint64_t needed = math::first_word<D>(draws.end, so_far());
    if (end == needed) return rejections;
    read_words(stream, end, needed - end, D::kRetriedWords,
               [&](const std::uint32_t* words, std::uint64_t first, std::uint64_t count) {
                 note_rejected(distribution, words, first, count, rejected);
               });
    end = needed;
  }
}

// Writes the draws [draws.begin, draws.end), where `rejections` are the rejected ones from any draw before on.
template <class D>
void draw_around(const D& distribution, const CandidateStream& stream, Range draws, std::int64_t before,
                 std::span<const std::int64_t> rejections, std::int64_t* ids) {
  std::int64_t passed = std::ranges::lower_bound(rejections, draws.begin) - rejections.begin();
  for (std::int64_t k = draws.begin; k < draws.end;) {
    const bool more = passed < std::ssize(rejections);
    const std::int64_t next = more ? std::min(rejections[passed], draws.end) : draws.end;
    draw(distribution, stream, {k, next}, before + passed, nullptr, ids + (k - draws.begin));
    k = next;
    if (k == draws.end) break;
    const std::uint64_t first = math::first_word<D>(k, before + passed);
    while (passed < std::ssize(rejections) && rejections[passed] == k) ++passed;
    const std::uint64_t integer = math::first_word<D>(k, before + passed) + D::kFixedWords;
    std::uint32_t words[math::kWordsPerDraw<D>];
    for (int i = 0; i < math::kWordsPerDraw<D>; ++i) {
      const auto at = static_cast<std::uint64_t>(i);
      words[i] = stream.word(i < D::kFixedWords ? first + at : integer + at - D::kFixedWords);
    }
    ids[k - draws.begin] = distribution.id(words, words + D::kFixedWords);
    ++k;
  }
}

// Writes `draws` on threads and returns the number of rejections among them.
template <class D>
std::int64_t draw_on_threads(const D& distribution, const CandidateStream& stream, Range draws, std::int64_t before,
                             int threads, Interruption& interruption, std::int64_t* ids) {
  constexpr bool kMayReject = D::kRetriedWords > 0;
  const auto part_of_team = [&](const Team& team, std::int64_t from) {
    const Range part = team.share(draws.end - from);
    return Range{from + part.begin, from + part.end};
  };
  std::vector<Words> noted(kMayReject ? static_cast<std::size_t>(threads) : 0);
  parallel(threads, [&](const Team& team) {
    const Range part = part_of_team(team, draws.begin);
    Words* const rejected = kMayReject ? &noted[static_cast<std::size_t>(team.rank)] : nullptr;
    in_parts(part, kDrawsAtOnce, interruption,
             [&](Range some) { draw(distribution, stream, some, before, rejected, ids + (some.begin - draws.begin)); });
  });
  interruption.check();
  if constexpr (kMayReject) {
    Words& rejected = noted.front();
    for (std::size_t i = 1; i < noted.size(); ++i) rejected.insert(rejected.end(), noted[i].begin(), noted[i].end());
    if (rejected.empty()) return 0;
    const std::vector<std::int64_t> rejections = find_rejections(distribution, stream, draws, before, rejected);
    if (rejections.empty()) return 0;
    parallel(threads, [&](const Team& team) {
      const Range part = part_of_team(team, rejections.front());
      in_parts(part, kDrawsAtOnce, interruption, [&](Range some) {
        draw_around(distribution, stream, some, before, rejections, ids + (some.begin - draws.begin));
      });
    });
    interruption.check();
    return std::ssize(rejections);
  }
  return 0;
}

}  // namespace

Draws::Draws(const SamplerParams& params, int threads, Interruption& interruption)
    : distribution_(params.distribution),
      stream_{params.seed, math::candidate_stream_start(params.seed2, params.num_sampled, params.call)},
      threads_(threads),
      interruption_(interruption) {
  current_isa();  // may throw: not inside parallel()
}

void Draws::next(std::int64_t count, std::int64_t* ids) {
  const Range draws{done_, done_ + count};
  math::with_distribution(distribution_, [&](const auto& distribution) {
    rejections_ += draw_on_threads(distribution, stream_, draws, rejections_, threads_, interruption_, ids);
  });
  done_ = draws.end;
}

}  // namespace fastnce::cpu
