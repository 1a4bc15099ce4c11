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
  const auto is_here = [&](const Mutant& mutant) {
    return mutant.mutation == mutation && mutant.line == site.line() && mutant.file == site.file_name();
  };
  if (noted != nullptr && std::ranges::none_of(*noted, is_here)) {
    noted->push_back({mutation, site.file_name(), site.line()});
  }
  return is_here(applied);
}

}  // namespace fastnce::cuda::emulated
