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
  kWrongLane,    // each lane gets the part of another
  kNextStage,    // a copy or a matrix load goes to the next stage
  kNarrowRow,    // row_offset() in 32 bits
};

// A mutation and the line that it applies to.
struct Mutant {
  Mutation mutation = Mutation::kNone;
  std::string file;
  unsigned line = 0;
  bool operator==(const Mutant&) const = default;
};

// From now on, until another is set; one without mutation changes nothing.
void mutate(const Mutant& mutant);

// All mutants of what a piece of work comes to.
std::vector<Mutant> mutants_of(const std::function<void()>& work);

// Whether a mutation applies here.
extern bool any_mutation;
bool applies(Mutation mutation, const Site& site);  // and notes that it could
// Not watched: kernels that ask access no memory of theirs.
[[gnu::no_sanitize("thread")]] inline bool is_mutated(Mutation mutation, const Site& site) {
  return any_mutation && applies(mutation, site);
}

// The two halves of that, for a mutation that can apply only if something else follows.
void note(Mutation mutation, const Site& site);
bool is_applied(Mutation mutation, const Site& site);

}  // namespace fastnce::cuda::emulated
