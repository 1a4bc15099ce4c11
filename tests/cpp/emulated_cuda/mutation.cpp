#include "mutation.h"

#include <algorithm>
#include <string_view>

namespace fastnce::cuda::emulated {

namespace {

Mutable applied{Mutation::kNone, "", 0};
std::vector<Mutable>* noted = nullptr;

std::string_view name_of(std::string_view path) { return path.substr(path.rfind('/') + 1); }

}  // namespace

bool is_mutated(Mutation mutation, const Site& site) {
  if (applied.mutation == Mutation::kNone && noted == nullptr) return false;
  const auto is_here = [&](const Mutable& one) {
    return one.mutation == mutation && one.line == site.line() && one.file == name_of(site.file_name());
  };
  if (noted != nullptr && std::ranges::none_of(*noted, is_here)) {
    noted->push_back({mutation, std::string(name_of(site.file_name())), site.line()});
  }
  return is_here(applied);
}

void mutate(const Mutable& mutant) { applied = mutant; }
void mutate_nothing() { applied = {Mutation::kNone, "", 0}; }

std::vector<Mutable> sites_of(const std::function<void()>& work) {
  std::vector<Mutable> sites;
  noted = &sites;
  work();
  noted = nullptr;
  return sites;
}

}  // namespace fastnce::cuda::emulated
