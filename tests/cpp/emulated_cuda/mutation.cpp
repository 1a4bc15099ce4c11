#include "mutation.h"

#include <algorithm>

namespace fastnce::cuda::emulated {

bool any_mutation = false;

namespace {

Mutant applied;
std::vector<Mutant>* noted = nullptr;

void update() { any_mutation = applied.mutation != Mutation::kNone || noted != nullptr; }

}  // namespace

void mutate(const Mutant& mutant) {
  applied = mutant;
  update();
}

std::vector<Mutant> mutants_of(const std::function<void()>& work) {
  std::vector<Mutant> mutants;
  noted = &mutants;
  update();
  work();
  noted = nullptr;
  update();
  return mutants;
}

bool applies(Mutation mutation, const Site& site) {
  const Mutant here{mutation, site.file_name(), site.line()};
  if (noted != nullptr && std::ranges::find(*noted, here) == noted->end()) noted->push_back(here);
  return here == applied;
}

}  // namespace fastnce::cuda::emulated
