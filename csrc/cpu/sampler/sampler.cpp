// Candidate sampling on threads. Draws come in order (cpu/sampler/draws.h), many at a time; unique sampling must then
// keep exactly what a walk through the draws in order would keep, and count the draws of that walk.
#include "cpu/sampler/sampler.h"

#include <algorithm>
#include <memory_resource>
#include <vector>

#include "cpu/runtime/hash.h"
#include "cpu/runtime/interrupt.h"
#include "cpu/runtime/parallel.h"
#include "cpu/runtime/workspace.h"
#include "cpu/sampler/class_set.h"
#include "cpu/sampler/draws.h"
#include "math/distribution/registry.h"

namespace fastnce::cpu {

namespace {

// Minimum work per thread. A draw takes some 20 ns, but in unique sampling every thread reads every draw, so threads
// gain little.
constexpr double kDrawsPerThread = 32768;
// Draws of a thread in one batch: they bound the memory of unique sampling and of rejections.
constexpr std::int64_t kDrawsAtOnce = std::int64_t{1} << 20;
// Between two polls for an interrupt, where each step may be a cache miss.
constexpr std::int64_t kStepsAtOnce = std::int64_t{1} << 16;

// Tells whether a class occurs for the first time. A bit per class where that takes no more memory than the
// samples themselves, otherwise a hash table.
class SeenClasses {
 public:
  SeenClasses(std::int64_t expected, std::pmr::memory_resource* memory) : table_(expected, memory) {}
  explicit SeenClasses(std::uint64_t* bitmap) : bitmap_(bitmap) {}

  bool insert(std::int64_t id) {
    if (bitmap_ == nullptr) return table_.insert(id);
    std::uint64_t& word = bitmap_[id / 64];
    const std::uint64_t bit = std::uint64_t{1} << (id % 64);
    const bool first = (word & bit) == 0;
    word |= bit;
    return first;
  }

 private:
  std::uint64_t* bitmap_ = nullptr;
  ClassSet table_;
};

// Walks through the draws batch by batch: threads make the draws of a batch; then every thread reads all of them in
// order, but looks only after the classes it owns, so that each first occurrence is found by one thread, in order and
// without locks; then the marked draws are collected in order.
class UniqueSampler {
 public:
  UniqueSampler(const SamplerParams& params, int threads)
      : num_sampled_(params.num_sampled), threads_(threads), stream_(params, threads, interruption_) {
    // On threads, the owner of a table may have to enlarge it.
    std::pmr::memory_resource* const memory = threads == 1 ? call_memory() : std::pmr::new_delete_resource();
    constexpr std::int64_t kBitsPerSample = 64;
    const std::int64_t range_max = params.distribution.range_max;
    if (range_max / kBitsPerSample <= params.num_sampled) {
      bitmap_.assign(static_cast<std::size_t>(range_max / 64 + 1), 0);
      for (int i = 0; i < threads_; ++i) seen_.emplace_back(bitmap_.data());
    } else {
      for (int i = 0; i < threads_; ++i) seen_.emplace_back(params.num_sampled / threads_ + 1, memory);
    }
  }

  std::int64_t run(std::int64_t* ids) {
    std::int64_t tries = 0;
    std::int64_t found = 0;
    double draws_per_find = 1.25;
    while (found < num_sampled_) {
      const std::int64_t batch = next_batch(num_sampled_ - found, draws_per_find);
      draws_.resize(static_cast<std::size_t>(batch));
      stream_.next(batch, draws_.data());
      mark_first_occurrences();
      const std::int64_t found_before = found;
      std::int64_t used = 0;
      for (; used < batch && found < num_sampled_; ++used) {
        ids[found] = draws_[used];
        found += is_first_[used];
      }
      tries += used;
      draws_per_find = static_cast<double>(used) / static_cast<double>(std::max<std::int64_t>(found - found_before, 1));
    }
    return tries;
  }

 private:
  // Finds become rarer, so that an estimate from the last batch seldom draws too many.
  static std::int64_t next_batch(std::int64_t missing, double draws_per_find) {
    const double batch = static_cast<double>(missing) * draws_per_find + 16.0;
    return static_cast<std::int64_t>(std::min(batch, static_cast<double>(kDrawsAtOnce)));
  }

  int owner(std::int64_t id) const {
    // By other bits of the hash than the slots in a table. Words of the bitmap are never shared.
    const std::int64_t block = bitmap_.empty() ? id : id / 64;
    return static_cast<int>(hash_slot(block, std::size_t{1} << 40) % static_cast<std::size_t>(threads_));
  }

  void mark_first_occurrences() {
    is_first_.assign(draws_.size(), 0);
    parallel(threads_, [&](const Team& team) {
      in_parts({0, std::ssize(draws_)}, kStepsAtOnce, interruption_, [&](Range part) {
        for (std::int64_t i = part.begin; i < part.end; ++i) {
          const int who = threads_ == 1 ? 0 : owner(draws_[i]);
          if ((team.size == 1 || who % team.size == team.rank) && seen_[who].insert(draws_[i])) is_first_[i] = 1;
        }
      });
    });
    interruption_.check();
  }

  const std::int64_t num_sampled_;
  const int threads_;
  Interruption interruption_;
  Draws stream_;
  std::pmr::vector<std::uint64_t> bitmap_{call_memory()};
  std::pmr::vector<SeenClasses> seen_{call_memory()};  // by owner
  std::pmr::vector<std::int64_t> draws_{call_memory()};
  std::pmr::vector<std::uint8_t> is_first_{call_memory()};
};

}  // namespace

std::int64_t sample_candidates(const SamplerParams& params, std::int64_t* ids) {
  const int threads = threads_for(static_cast<double>(params.num_sampled), kDrawsPerThread);
  if (params.unique && params.distribution.kind != math::kind_of<math::All>()) {
    return UniqueSampler(params, threads).run(ids);
  }
  Interruption interruption;
  Draws draws(params, threads, interruption);
  for (std::int64_t done = 0; done < params.num_sampled;) {
    const std::int64_t part = std::min(params.num_sampled - done, threads * kDrawsAtOnce);
    draws.next(part, ids + done);
    done += part;
  }
  return params.num_sampled;
}

}  // namespace fastnce::cpu
