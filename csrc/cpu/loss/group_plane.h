// The work of one thread in the [B, S] plane, where each group of examples has its own samples.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/loss/loss_kernels.h"
#include "cpu/loss/loss_setup.h"
#include "cpu/runtime/parallel.h"

namespace fastnce::cpu {

// The examples of a thread: whole groups, so that no two threads read the same rows, unless there are too few of them.
inline Range share_of_examples(const GroupView& groups, std::int64_t batch, const Team& team) {
  constexpr std::int64_t kGroupsPerThread = 8;
  if (groups.count < kGroupsPerThread * team.size) return team.share(batch);
  const Range own = team.share(groups.count);
  return {groups.begin(own.begin), groups.begin(own.end)};
}

// Each thread computes the samples of its own examples, group after group, and keeps G for the rows of dW. Threads
// share nothing that they write, so there are no barriers.
template <class T>
class GroupPlane {
 public:
  GroupPlane(const LossTask<T>& task, const LossKernels<T>& kernels, const TileKernels<T>& tiles,
             const ThreadMemory<T>& memory)
      : task_(task), kernels_(kernels), tiles_(tiles), memory_(memory), own_(task) {
    own_.sampled_offset = memory.offsets;
    own_.grad_weights = own_.grad_biases = nullptr;
  }

  void logistic(Range examples) {
    for_groups(examples, [&](Range part) { tiles_.logistic_block(own_, part, samples(), {}, memory_.scratch); });
  }

  // Calls true_classes(strip) for the examples of a strip once their sums are complete.
  template <class TrueClasses>
  void softmax(Range examples, const StripSizes& strips, const TrueClasses& true_classes) {
    for_groups(examples, [&](Range part) {
      for (std::int64_t b = part.begin; b < part.end; b += strips.examples) {
        const Range strip{b, std::min(b + strips.examples, part.end)};
        tiles_.logits_of_block(own_, strip, samples(), memory_.strip, 0, memory_.scratch);
        true_classes(strip);
        if (!task_.wants_gradients()) continue;
        tiles_.gradients_of_block(own_, strip, samples(), memory_.strip, 0, {}, memory_.scratch);
      }
    });
  }

 private:
  Range samples() const { return {0, task_.num_sampled}; }

  // Calls block(part) for the parts of `examples` that are of one group, whose samples are then those of `own_`. Blocks
  // poll for an interrupt.
  template <class Block>
  void for_groups(Range examples, const Block& block) {
    for (std::int64_t b = examples.begin; b < examples.end && !task_.interruption->known();) {
      const std::int64_t group = task_.row_of_batch(b) / task_.groups.size;
      const Range part{b, std::min(task_.groups.begin(group + 1), examples.end)};
      enter(group, part);
      block(part);
      b = part.end;
    }
  }

  void enter(std::int64_t group, Range examples) {
    const std::int64_t first = group * task_.num_sampled;
    own_.sampled = task_.sampled + first;
    if (task_.sampled_log_q != nullptr) own_.sampled_log_q = task_.sampled_log_q + first;
    own_.group.following = (task_.groups.count - 1 - group) * task_.num_sampled;
    own_.group.examples = task_.groups.examples(group);
    if (task_.group_grad != nullptr) {
      own_.group.grad = task_.group_grad + own_.group.examples.begin * task_.num_sampled;
    }
    kernels_.sampled_offsets(own_, samples());
    if (task_.removed.any()) enter_removed(examples);
  }

  void enter_removed(Range examples) {
    // From so many comparisons on, filling the filter costs less than it saves.
    constexpr std::int64_t kShortList = 16;
    GroupSamples<T>& group = own_.group;
    group.keys = own_.sampled;
    if (task_.removed.keys != nullptr) {
      for (std::int64_t s = 0; s < task_.num_sampled; ++s) memory_.keys[s] = task_.removed.key(own_.sampled[s]);
      group.keys = memory_.keys;
    }
    group.filter = nullptr;
    if (removed_by(examples) <= kShortList) return;
    group.filter = memory_.filter;
    group.filter_bits = filter_bits(task_.num_sampled);
    kernels_.fill_filter(group.keys, task_.num_sampled, group.filter, group.filter_bits);
  }

  // How many classes they remove.
  std::int64_t removed_by(Range examples) const {
    const RemovedClasses& removed = task_.removed;
    std::int64_t count = 0;
    if (removed.labels) count += task_.targets.begin(examples.end) - task_.targets.begin(examples.begin);
    for (std::int64_t b = examples.begin; b < examples.end && removed.offsets != nullptr; ++b) {
      const std::int64_t row = task_.row_of_batch(b);
      count += removed.offsets[row + 1] - removed.offsets[row];
    }
    return count;
  }

  const LossTask<T>& task_;
  const LossKernels<T>& kernels_;
  const TileKernels<T>& tiles_;
  const ThreadMemory<T>& memory_;
  LossTask<T> own_;  // with the samples of the group that is computed
};

}  // namespace fastnce::cpu
