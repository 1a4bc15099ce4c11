#include "fastnce/config.h"

#include "cpu/isa.h"
#include "cpu/parallel.h"
#include "fastnce/error.h"

namespace fastnce {

std::string_view version() { return FASTNCE_VERSION; }

std::string_view compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "gcc " __VERSION__;
#endif
}

std::vector<std::string_view> isa_available() {
  std::vector<std::string_view> names;
  for (const cpu::Isa* isa : cpu::available_isas()) names.emplace_back(isa->name);
  return names;
}

std::string_view isa_in_use() { return cpu::current_isa().name; }

int num_threads() { return cpu::num_threads(); }

void set_num_threads(std::int64_t threads) {
  constexpr int kMost = 4096;  // OpenMP ends the process when it cannot start a thread
  if (threads < 1 || threads > kMost) {
    throw InvalidValue(concat("num_threads = ", threads, ": expected 1 to ", kMost));
  }
  cpu::set_num_threads(static_cast<int>(threads));
}

}  // namespace fastnce
