// One set of samples on the device: what a call draws for one group of examples. Unique sampling keeps what a
// sequential walk through the draws would keep, and counts the draws of that walk: a hash table keeps the first draw of
// each class, with atomic minima, so that the result does not depend on the order of threads; then a block walks over
// the draws.
#pragma once

#include <cstdint>

#include "cuda/runtime/device.cuh"
#include "cuda/runtime/warp.cuh"
#include "cuda/sampler/draws.cuh"
#include "fastnce/cuda.h"
#include "math/candidate_stream.h"

namespace fastnce::cuda {

inline constexpr AtomicWord kEmpty = ~AtomicWord{0};

// Scratch of a set. Pointers are to device memory.
struct SetMemory {
  std::int64_t draws;           // made at a time
  std::int64_t slots;           // of the table, a power of two
  AtomicWord* classes;          // [slots]: kEmpty or the class that a slot is for
  AtomicWord* first;            // [slots]: the first draw that gave it
  std::uint32_t* slot_of_draw;  // [draws], of the draws made last
  Rejections rejections;        // of the draws made last
};

// Where a set goes.
struct SetResult {
  std::int64_t* sampled;  // [S]
  std::int64_t* tries;
};

// Arguments of one call.
struct SamplerArguments {
  std::int64_t range_max, num_sampled, groups;
  std::uint64_t seed, seed2, call;
  std::uint64_t* calls;  // used instead of `call` unless null
  SetMemory memory;      // with more sets at once: of the first, all arrays in a row
  std::int64_t at_once;
  std::int64_t* tries;  // [G]
  const std::int64_t* labels;
  std::int64_t num_labels;
  const std::int64_t* label_offsets;  // [B + 1]; null: as many labels for each example
  std::int64_t served;                // examples of a group
  Candidates out;

  constexpr SetResult result(std::int64_t group) const { return {out.sampled + group * num_sampled, tries + group}; }
};

template <class D>
struct SamplerCall {
  SamplerArguments args;
  D distribution;
};

FASTNCE_DEVICE math::CandidateStream stream_of(const SamplerArguments& args, std::int64_t group) {
  const std::uint64_t call = args.calls != nullptr ? *args.calls : args.call;
  const std::uint64_t set = call * static_cast<std::uint64_t>(args.groups) + static_cast<std::uint64_t>(group);
  return {args.seed, math::candidate_stream_start(args.seed2, args.num_sampled, set)};
}

// Finds or claims the slot of a class.
FASTNCE_DEVICE std::uint32_t slot_of(const SetMemory& set, std::int64_t id) {
  const auto word = static_cast<AtomicWord>(id);
  const auto mask = static_cast<AtomicWord>(set.slots - 1);
  AtomicWord slot = (word * 0x9E3779B97F4A7C15u >> 32) & mask;
  for (;; slot = (slot + 1) & mask) {
    AtomicWord found = load_shared_word(set.classes + slot);
    if (found == kEmpty) found = atomic_cas(set.classes + slot, kEmpty, word);
    if (found == kEmpty || found == word) return static_cast<std::uint32_t>(slot);
  }
}

// Makes draws begin + 2 i and begin + 2 i + 1, which come from one block of random words unless integers were rejected
// (`begin` is even), and enters them in the table.
template <class D>
FASTNCE_DEVICE void enter_draws(const D& distribution, const SetMemory& set, const math::CandidateStream& stream,
                                std::int64_t begin, std::int64_t before, std::int64_t i) {
  DrawReader<D> reader(distribution, stream);
  for (std::int64_t own = 2 * i; own < 2 * i + 2; ++own) {
    const std::uint32_t slot = slot_of(set, reader.draw(begin, own, before, set.rejections));
    const auto draw = static_cast<AtomicWord>(begin + own);
    // The most frequent classes come up thousands of times: most of them need no atomic.
    if (load_shared_word(set.first + slot) > draw) atomic_min(set.first + slot, draw);
    set.slot_of_draw[own] = slot;
  }
}

// Makes draws 2 i and 2 i + 1, as far as there are so many. With replacement every draw counts.
template <class D>
FASTNCE_DEVICE void keep_draws(const SamplerCall<D>& call, const SetMemory& set, const math::CandidateStream& stream,
                               const SetResult& result, std::int64_t i) {
  if (i == 0) *result.tries = call.args.num_sampled;
  DrawReader<D> reader(call.distribution, stream);
  for (std::int64_t draw = 2 * i; draw < 2 * i + 2 && draw < call.args.num_sampled; ++draw) {
    result.sampled[draw] = reader.draw(0, draw, 0, set.rejections);
  }
}

// By a block of kThreads threads, after the first round of draws was entered: walks over the draws in order, 8 for each
// thread at a time. A draw counts if it is the first of its class in the table. If the draws run out, the block makes
// more.
template <int kThreads, class D>
FASTNCE_DEVICE void walk(const SamplerCall<D>& call, const SetMemory& set, const math::CandidateStream& stream,
                         const SetResult& result, ListMemory<kThreads>* memory) {
  constexpr int kDrawsPerThread = 8;  // of one step
  const std::int64_t num_sampled = call.args.num_sampled;
  std::int64_t found = 0;
  std::int64_t before = 0;  // rejections, of the rounds before
  for (std::int64_t begin = 0;; begin += set.draws) {
    for (std::int64_t step = 0; step < set.draws; step += kThreads * kDrawsPerThread) {
      const std::int64_t own = step + thread_index() * kDrawsPerThread;
      std::uint32_t slot[kDrawsPerThread];
      bool counts[kDrawsPerThread];
      int own_count = 0;
#pragma unroll
      for (int i = 0; i < kDrawsPerThread; ++i) {
        const bool drawn = own + i < set.draws;
        slot[i] = drawn ? set.slot_of_draw[own + i] : 0;
        counts[i] = drawn && load_shared_word(set.first + slot[i]) == static_cast<AtomicWord>(begin + own + i);
        own_count += counts[i] ? 1 : 0;
      }
      const BlockSum sum = sum_over_block<kThreads>(own_count, memory->warp_sums);
      std::int64_t at = found + sum.before;
#pragma unroll
      for (int i = 0; i < kDrawsPerThread; ++i) {
        if (!counts[i]) continue;
        if (at < num_sampled) result.sampled[at] = static_cast<std::int64_t>(load_shared_word(set.classes + slot[i]));
        if (++at == num_sampled) *result.tries = begin + own + i + 1;
      }
      found += sum.total;
      if (found >= num_sampled) return;
    }
    if constexpr (D::kRetriedWords > 0) {
      before += *set.rejections.count;  // which the list overwrites only after a barrier of its own
      list_rejections(call.distribution, stream, begin + set.draws, set.draws, before, set.rejections, memory);
      sync_block();
    }
    for (std::int64_t i = thread_index(); 2 * i < set.draws; i += kThreads) {
      enter_draws(call.distribution, set, stream, begin + set.draws, before, i);
    }
    sync_block();
  }
}

}  // namespace fastnce::cuda
