// Faults put into the kernels' primitives on purpose, one at a time: mutants, each of which the tests must catch.
// A mutation applies to one site, a line of the kernels, so that one build serves for all.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "block.h"

namespace fastnce::cuda::emulated {

enum class Mutation {
  kNone,
  kNoBarrier,    // sync_block() does nothing
  kLateBarrier,  // sync_block() takes place behind the copies that follow it
  kNoWarpSync,   // sync_warp() does nothing
  kShortWait,    // wait_for_copies<N>() waits as if for N + 1
  kWrongLane,    // each lane gets the part of its neighbour
  kNextStage,    // a copy or a matrix load goes to the next stage
  kNarrowRow,    // row_offset() in 32 bits
};

// A line that a mutation can apply to.
struct Mutable {
  Mutation mutation;
  std::string file;  // without folders
  unsigned line;
};

// Whether it applies here.
bool is_mutated(Mutation mutation, const Site& site);

void mutate(const Mutable& mutant);
void mutate_nothing();

// The sites of all mutations that a piece of work comes to.
std::vector<Mutable> sites_of(const std::function<void()>& work);

}  // namespace fastnce::cuda::emulated
