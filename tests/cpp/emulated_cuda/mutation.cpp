#include "mutation.h"

#include <algorithm>

namespace fastnce::cuda::emulated {

bool any_mutation = false;

namespace {

Mutant applied;
std::vector<Mutant>* noted = nullptr;

bool is_at(const Mutant& mutant, Mutation mutation, const Site& site) {
  return mutant.mutation == mutation && mutant.line == site.line() && mutant.file == site.file_name();
}

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

void note(Mutation mutation, const Site& site) {
  if (noted == nullptr) return;
  const auto is_here = [&](const Mutant& mutant) { return is_at(mutant, mutation, site); };
  if (std::ranges::none_of(*noted, is_here)) noted->push_back({mutation, site.file_name(), site.line()});
}

bool is_applied(Mutation mutation, const Site& site) { return is_at(applied, mutation, site); }

bool applies(Mutation mutation, const Site& site) {
  note(mutation, site);
  return is_applied(mutation, site);
}

}  // namespace fastnce::cuda::emulated
