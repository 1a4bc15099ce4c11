// How the threads of a call share its work: pure functions of its sizes.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/loss/loss_task.h"
#include "fastnce/loss.h"

namespace fastnce::cpu {

// Threads in the [B, S] plane.
//
// Every thread owns a range of examples, so dX and the losses are written without conflict. Sampled rows are shared:
// the threads form teams, and the samples are split into as many groups as a team has members. In step k member j works
// on group (j + k) mod groups: all members are in different columns at all times, and after `groups` steps, with a
// barrier after each, every member has met every group. A team adds straight into its own copy of dW; only the copies
// of different teams are summed at the end. One team is best (no copies) as long as the groups stay a tile wide; copies
// are then at most (threads / groups) S D = O(threads * tile * D).
struct Schedule {
  std::int64_t groups;
  std::int64_t teams;

  Schedule(std::int64_t threads, std::int64_t num_sampled) {
    constexpr std::int64_t kNarrowestGroup = 128;
    groups = std::clamp<std::int64_t>(num_sampled / kNarrowestGroup, 1, threads);
    teams = (threads + groups - 1) / groups;
  }
};

// Work of some 35 microseconds. On an idle machine, starting threads and barriers cost 5 to 10 microseconds, so two
// threads pay for a problem that takes 70 on one (w2v: 1.5 times as fast), and hardly below. If other programs hold the
// cores, no size is safe.
inline constexpr double kFlopsPerThread = 3e6;

inline double flops(const LossRequest& r) {
  constexpr double kLogistic = 8;     // as many columns more
  constexpr double kTrueClass = 4e3;  // 50 ns: a row from anywhere in the table, the gradients, their place
  constexpr double kGathered = 2e3;   // 25 ns: one of many rows that are gathered one after the other
  const auto batch = static_cast<double>(r.batch), num_true = static_cast<double>(r.targets.count(r.batch));
  const double gathered = r.negatives.groups > 1 ? static_cast<double>(r.negatives.total()) : 0.0;
  return 6.0 * (batch * static_cast<double>(r.negatives.count) + num_true) * (static_cast<double>(r.dim) + kLogistic) +
         num_true * kTrueClass + gathered * kGathered;
}

// Strips of a softmax: each thread's examples in as many parts, one after the other, whose exponentials are kept from
// one pass to the next. Each strip packs all of W twice, for 6 B S D operations of its examples: 512 of them make that
// less than 5 % of the time. Exponentials of up to kStripBytes stay near the cores; those of all threads are bounded,
// and where that leaves too few examples, the logits are computed again instead. Sized for the threads that were asked
// for: where OpenMP gives fewer, there are more strips of the same size.
struct StripSizes {
  std::int64_t examples;  // at most, of one thread's strip
  std::int64_t example_tiles;
  std::int64_t slots;  // tiles of samples, at most
  bool keeps;          // the exponentials

  StripSizes(std::int64_t batch, std::int64_t num_sampled, const TileSizes& tile, std::int64_t threads,
             std::int64_t element_bytes, bool wants_gradients) {
    constexpr std::int64_t kStripBytes = std::int64_t{16} << 20;
    constexpr std::int64_t kBytesOfAll = std::int64_t{192} << 20;
    constexpr std::int64_t kEnough = 512, kTooFew = 64, kMost = 4096;
    const std::int64_t share = std::max<std::int64_t>((batch + threads - 1) / threads, 1);
    const std::int64_t row_bytes = std::max<std::int64_t>(num_sampled, 1) * element_bytes;
    const std::int64_t kept =
        std::min(std::clamp(kStripBytes / row_bytes, kEnough, kMost), kBytesOfAll / threads / row_bytes);
    keeps = wants_gradients && kept >= std::min(kTooFew, share);
    const std::int64_t most = keeps ? kept : kMost;
    const std::int64_t strips = (share + most - 1) / most;
    examples = (share + strips - 1) / strips;
    example_tiles = (examples + tile.examples - 1) / tile.examples;
    slots = 0;
    for (std::int64_t groups = 1; groups <= Schedule(threads, num_sampled).groups; ++groups) {
      slots = std::max(slots, groups * slots_of_group(num_sampled, groups, tile));
    }
  }

  std::int64_t strips(std::int64_t batch, std::int64_t threads) const {
    return std::max<std::int64_t>(((batch + threads - 1) / threads + examples - 1) / examples, 1);
  }

  // At most, of one of the groups that the samples are cut into.
  static std::int64_t slots_of_group(std::int64_t num_sampled, std::int64_t groups, const TileSizes& tile) {
    return ((num_sampled + groups - 1) / groups + tile.samples - 1) / tile.samples;
  }
};

}  // namespace fastnce::cpu
