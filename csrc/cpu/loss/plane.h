// The work of one thread in the [B, S] plane, where all examples share the samples.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/loss/loss_kernels.h"
#include "cpu/loss/loss_setup.h"
#include "cpu/runtime/parallel.h"

namespace fastnce::cpu {

template <class T>
class Plane {
 public:
  Plane(const LossTask<T>& task, const TileKernels<T>& tiles, const Schedule& schedule, const Team& team,
        const ThreadMemory<T>& memory)
      : task_(task), tiles_(tiles), schedule_(schedule), team_(team), memory_(memory) {
    const std::int64_t own_team = team.rank / schedule.groups;
    member_ = team.rank % schedule.groups;
    members_ = std::min(schedule.groups, team.size - own_team * schedule.groups);
    const std::int64_t direct_teams = task.copies - task.weight_copy_count;
    if (task.bias_copies != nullptr) sums_.bias = task.bias_copies + own_team * task.num_sampled;
    if (task.grad_weights != nullptr && own_team >= direct_teams) {
      sums_.weights = task.weight_copies + (own_team - direct_teams) * task.num_sampled * task.dim;
    }
  }

  // Each member clears its part of the team's copies. Ends with a barrier.
  void clear_copies() const {
    const Range clear = part_of(task_.num_sampled, member_, members_);
    if (sums_.bias != nullptr) std::fill(sums_.bias + clear.begin, sums_.bias + clear.end, T{0});
    if (sums_.weights != nullptr) {
      std::fill(sums_.weights + clear.begin * task_.dim, sums_.weights + clear.end * task_.dim, T{0});
    }
    team_.barrier();
  }

  void logistic() const {
    clear_copies();
    step_through_groups([&](std::int64_t, Range sampled) {
      tiles_.logistic_block(task_, team_.share(task_.batch), sampled, sums_, memory_.scratch);
    });
  }

  // Calls true_classes(strip) for the examples of a strip once their sums are complete, and start_rows() before the
  // first gradients of samples.
  template <class TrueClasses, class Rows>
  void softmax(const WorkspaceSizes& sizes, const TrueClasses& true_classes, const Rows& start_rows) const {
    clear_copies();
    const Range examples = team_.share(task_.batch);
    const std::int64_t group_slots = StripSizes::slots_of_group(task_.num_sampled, schedule_.groups, sizes.tile);
    const std::int64_t strips = sizes.strips.strips(task_.batch, team_.size);  // for all threads: they meet at barriers
    for (std::int64_t i = 0; i < strips; ++i) {
      const Range within = part_of(examples.size(), i, strips);
      const Range strip{examples.begin + within.begin, examples.begin + within.end};
      for (std::int64_t group = 0; group < schedule_.groups; ++group) {
        tiles_.logits_of_block(task_, strip, samples_of(group), memory_.strip, group * group_slots, memory_.scratch);
      }
      true_classes(strip);
      if (!task_.wants_gradients()) continue;
      if (i == 0) {
        team_.barrier();
        start_rows();
        team_.barrier();
      }
      step_through_groups([&](std::int64_t group, Range sampled) {
        tiles_.gradients_of_block(task_, strip, sampled, memory_.strip, group * group_slots, sums_, memory_.scratch);
      });
    }
  }

 private:
  Range samples_of(std::int64_t group) const { return part_of(task_.num_sampled, group, schedule_.groups); }

  // Calls block(group, its samples) for all groups, each in its turn, with a barrier after each.
  template <class Block>
  void step_through_groups(const Block& block) const {
    for (std::int64_t step = 0; step < schedule_.groups; ++step) {
      const std::int64_t group = (member_ + step) % schedule_.groups;
      block(group, samples_of(group));
      team_.barrier();
    }
  }

  const LossTask<T>& task_;
  const TileKernels<T>& tiles_;
  const Schedule& schedule_;
  const Team& team_;
  const ThreadMemory<T>& memory_;
  std::int64_t member_, members_;
  TeamSums<T> sums_{};
};

}  // namespace fastnce::cpu
