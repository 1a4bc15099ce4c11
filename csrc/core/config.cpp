#include "fastnce/config.h"

#include <atomic>
#include <cstdlib>
#include <iterator>

#include "cpu/runtime/isa.h"
#include "cpu/runtime/parallel.h"
#include "fastnce/error.h"

namespace fastnce {

namespace {

constexpr std::string_view kPrecisionNames[] = {"highest", "high", "medium"};  // by Precision

std::atomic<Precision>& precision_setting() {
  static std::atomic<Precision> setting = [] {
    const char* named = std::getenv("FASTNCE_PRECISION");
    return named == nullptr || *named == '\0' ? Precision::kHighest : precision_from(named, "FASTNCE_PRECISION");
  }();
  return setting;
}

}  // namespace

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
  for (const cpu::Isa isa : cpu::available_isas()) names.emplace_back(cpu::name_of(isa));
  return names;
}

std::string_view isa_in_use() { return cpu::name_of(cpu::current_isa()); }

std::string_view precision_name(Precision precision) { return kPrecisionNames[static_cast<int>(precision)]; }

Precision precision_from(std::string_view name, std::string_view argument) {
  for (std::size_t i = 0; i < std::size(kPrecisionNames); ++i) {
    if (name == kPrecisionNames[i]) return static_cast<Precision>(i);
  }
  throw InvalidValue(concat(argument, " = '", name, "': expected 'highest', 'high' or 'medium'"));
}

Precision default_precision() { return precision_setting(); }

void set_default_precision(Precision precision) { precision_setting() = precision; }

int num_threads() { return cpu::num_threads(); }

void set_num_threads(std::int64_t threads) {
  constexpr int kMost = 4096;  // OpenMP ends the process when it cannot start a thread
  if (threads < 1 || threads > kMost) {
    throw InvalidValue(concat("num_threads = ", threads, ": expected 1 to ", kMost));
  }
  cpu::set_num_threads(static_cast<int>(threads));
}

}  // namespace fastnce
