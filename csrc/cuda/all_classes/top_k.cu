// A block of threads goes through an example's scores, segment by segment, and sorts those of a segment that belong
// into the list, if there are any: of random scores there are fewer and fewer. List and segment are merged by looking
// up how many of one precede each of the other, which takes log k steps and any k. The order of all, by score and id,
// is total, so that no result depends on which thread comes first.
#include "cuda/all_classes/top_k.h"

#include <bit>
#include <limits>

#include "cuda/rows/block_sort.cuh"
#include "cuda/runtime/warp.cuh"

namespace fastnce::cuda {

namespace {

constexpr int kThreads = 128;
constexpr int kItems = 8;
using Sort = BlockSort<kThreads, kItems>;
constexpr int kSegment = Sort::kWords;

// A class and its score. Empty places have id -1, which comes last as an unsigned number.
struct Scored {
  float score;
  std::int64_t id;
};
FASTNCE_DEVICE bool is_better(const Scored& a, const Scored& b) {
  return a.score > b.score ||
         (a.score == b.score && static_cast<std::uint64_t>(a.id) < static_cast<std::uint64_t>(b.id));
}

// A score that is not NaN in the upper half of a word, so that words ascend as scores fall; the column below it.
FASTNCE_DEVICE std::uint64_t word_of(float score, std::int64_t column) {
  const auto bits = std::bit_cast<std::uint32_t>(score + 0.0f);  // -0 becomes 0, its equal
  const std::uint32_t falling = bits ^ (bits >> 31 != 0 ? 0u : 0x7FFFFFFFu);
  return static_cast<std::uint64_t>(falling) << 32 | static_cast<std::uint64_t>(column);
}
FASTNCE_DEVICE Scored scored(std::uint64_t word, std::int64_t first_class) {
  const auto falling = static_cast<std::uint32_t>(word >> 32);
  const std::uint32_t bits = falling ^ (falling >> 31 != 0 ? 0u : 0x7FFFFFFFu);
  return {std::bit_cast<float>(bits), first_class + static_cast<std::int64_t>(word & 0xFFFFFFFFu)};
}

struct List {
  float* scores;
  std::int64_t* ids;

  FASTNCE_DEVICE Scored operator[](std::int64_t i) const { return {scores[i], ids[i]}; }
  FASTNCE_DEVICE void set(std::int64_t i, const Scored& entry) const {
    scores[i] = entry.score;
    ids[i] = entry.id;
  }
};

// How many of `count` sorted entries are better.
template <class At>
FASTNCE_DEVICE std::int64_t count_better(const Scored& than, std::int64_t count, const At& at) {
  std::int64_t low = 0;
  std::int64_t high = count;
  while (low < high) {
    const std::int64_t middle = (low + high) / 2;
    if (is_better(at(middle), than)) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

FASTNCE_KERNEL(kThreads, 1) begin_top_k_kernel(FASTNCE_ARGUMENTS TopKArguments args) {
  const std::int64_t i = block_x() * kThreads + thread_index();
  if (i >= args.batch * args.wanted) return;
  const bool is_broken = args.exclude.is_broken(i / args.wanted);
  args.scores[i] = is_broken ? __builtin_nanf("") : -std::numeric_limits<float>::infinity();
  args.ids[i] = -1;
}

struct MergeArguments {
  TopKArguments top;
  ScoreBlock block;
};

FASTNCE_KERNEL(kThreads, 4) merge_top_k_kernel(FASTNCE_ARGUMENTS MergeArguments args) {
  auto* const words = reinterpret_cast<std::uint64_t*>(shared_memory());
  auto* const warp_sums = reinterpret_cast<int*>(shared_memory() + Sort::kSharedBytes);
  const ScoreBlock& block = args.block;
  const std::int64_t k = args.top.k;
  const std::int64_t row = block_x();
  const std::int64_t b = block.first + row;
  if (args.top.exclude.is_broken(b)) return;
  const float* const scores = block.scores + row_offset(row, block.pitch);
  List list{args.top.scores + row_offset(b, args.top.wanted), args.top.ids + row_offset(b, args.top.wanted)};
  List other{args.top.other_scores + row_offset(row, k), args.top.other_ids + row_offset(row, k)};
  bool in_place = true;
#pragma unroll 1
  for (std::int64_t first = 0; first < block.classes; first += kSegment) {
    const Scored last = list[k - 1];
    float score[kItems];  // all under way before the first is looked at
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      const std::int64_t column = first + i * kThreads + thread_index();
      score[i] = column < block.classes ? scores[column] : __builtin_nanf("");  // better than none
    }
    int own = 0;
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      const std::int64_t column = first + i * kThreads + thread_index();
      std::uint64_t word = ~std::uint64_t{0};  // behind all others
      if (is_better({score[i], block.first_class + column}, last) && !block.is_left_out(row, column)) {
        word = word_of(score[i], column);
        ++own;
      }
      words[i * kThreads + thread_index()] = word;
    }
    const std::int64_t better = sum_over_block<kThreads>(own, warp_sums).total;
    if (better == 0) continue;
    Sort::sort(words, 32, 64);  // those of one score keep their order, which is that of ids
    const std::int64_t found = better < k ? better : k;
    const auto candidate = [&](std::int64_t i) { return scored(words[i], block.first_class); };
    for (std::int64_t i = thread_index(); i < k; i += kThreads) {
      const Scored entry = list[i];
      const std::int64_t to = i + count_better(entry, found, candidate);
      if (to < k) other.set(to, entry);
    }
    for (std::int64_t i = thread_index(); i < found; i += kThreads) {
      const Scored entry = candidate(i);
      const std::int64_t to = i + count_better(entry, k, [&](std::int64_t j) { return list[j]; });
      if (to < k) other.set(to, entry);
    }
    sync_block();
    const List merged = other;
    other = list;
    list = merged;
    in_place = !in_place;
  }
  if (in_place) return;
  for (std::int64_t i = thread_index(); i < k; i += kThreads) other.set(i, list[i]);
}

}  // namespace

void queue_begin_top_k(const TopKArguments& args, const Stream& stream) {
  launch(begin_top_k_kernel, {.x = ceiling(args.batch * args.wanted, kThreads)}, kThreads, 0, stream, args);
}

void queue_merge_top_k(const TopKArguments& args, const ScoreBlock& block, const Stream& stream) {
  constexpr int kSharedBytes = Sort::kSharedBytes + kThreads / kWarp * static_cast<int>(sizeof(int));
  launch(merge_top_k_kernel, {.x = block.examples}, kThreads, kSharedBytes, stream, MergeArguments{args, block});
}

}  // namespace fastnce::cuda
