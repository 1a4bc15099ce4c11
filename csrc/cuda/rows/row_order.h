// The order of a call's row gradients: which labels and samples share a row, and the rows' numbers. It depends on ids
// alone, so that it can be computed beside the products.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/rows/targets.cuh"
#include "cuda/runtime/limits.h"
#include "cuda/runtime/runtime.h"

namespace fastnce::cuda {

// Entry e < L is that of the L labels, entry e >= L is sampled position e - L, as in RowPlan. A word holds an entry's
// class above its number e. Padding, labels of no list and ids out of range have class V, so that they come last,
// labels first.
using RowEntry = std::uint64_t;
inline constexpr int kEntryBits = 28;
static_assert(kMostEntries <= std::int64_t{1} << kEntryBits);
static_assert(kMostClasses < std::int64_t{1} << (64 - kEntryBits));

struct RowSummary {
  std::int64_t rows;
  std::int64_t valid_entries;  // that have a class: the first ones
  std::int64_t last_id;        // of the last row, or 0
  // A sampled class out of range belongs to no row, so that only this tells: it makes all gradients NaN.
  bool has_bad_sample;
};

struct RowOrder {
  DeviceTargets targets;
  const std::int64_t* sampled;  // z [S], or [G, S]
  std::int64_t num_labels, num_sampled, num_classes;
  // Groups: sampled entries are pairs of an example and one of its `of_group` samples, example by example, and an
  // example's group serves `served`. 0: entries are samples.
  std::int64_t of_group = 0, served = 0;
  std::int64_t room;  // rows that the outputs have room for; at most as many as entries
  int class_bits;     // that hold 0 to V

  // Workspace: scratch, then the results.
  RowEntry* unsorted;  // [L + S]; this and the scratch only where has_many_entries()
  void* sort_scratch;
  std::size_t sort_scratch_bytes;
  RowEntry* sorted;            // [L + S]
  std::uint32_t* rows_so_far;  // [L + S]: rows that have started up to and with each sorted entry
  RowSummary* summary;
  std::int64_t* row_count;  // as in LossOutputs

  constexpr std::int64_t entries() const { return num_labels + num_sampled; }
  constexpr bool has_groups() const { return of_group > 0; }
  constexpr std::int64_t example_of_pair(std::int64_t pair) const { return pair / of_group; }
  constexpr std::int64_t sample_of_pair(std::int64_t pair) const {
    return pair / of_group / served * of_group + pair % of_group;
  }
};

// Up to so many entries one block sorts alone, in one launch; up to the first number a small block, quickly.
inline constexpr std::int64_t kFewEntries = 1024;
inline constexpr std::int64_t kMostInOneBlock = 12 * 1024;
constexpr bool has_many_entries(std::int64_t entries) { return entries > kMostInOneBlock; }

// Whether it pays to compute the order on a stream of its own: the events of that take the host some 5 us, which is as
// long as few entries take the device (predictions).
constexpr bool is_slow(const RowOrder& order) { return order.entries() > kFewEntries; }

void queue_row_order(const RowOrder& order, const Stream& stream);

}  // namespace fastnce::cuda
