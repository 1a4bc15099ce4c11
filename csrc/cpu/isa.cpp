#include "cpu/isa.h"

#include <cstdlib>
#include <string>
#include <vector>

#include "fastnce/error.h"

namespace fastnce::cpu {

extern const Isa kIsaBaseline;
#if defined(FASTNCE_X86)
extern const Isa kIsaAvx2;
extern const Isa kIsaAvx512;
#endif

namespace {

std::vector<const Isa*> detect() {
  std::vector<const Isa*> found{&kIsaBaseline};
#if defined(FASTNCE_X86)
  // The compiler's run-time library asks both the processor and the operating system (xgetbv).
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&kIsaAvx2);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma")) {
    found.push_back(&kIsaAvx512);
  }
#endif
  return found;
}

const Isa& choose() {
  const std::span<const Isa* const> isas = available_isas();
  const char* wanted = std::getenv("FASTNCE_ISA");
  if (wanted == nullptr || *wanted == '\0') return *isas.back();
  std::string names;
  for (const Isa* isa : isas) {
    if (std::string(isa->name) == wanted) return *isa;
    names += (names.empty() ? "" : ", ") + std::string(isa->name);
  }
  throw InvalidValue(concat("FASTNCE_ISA = '", wanted, "' is not available: expected one of ", names));
}

}  // namespace

std::span<const Isa* const> available_isas() {
  static const std::vector<const Isa*> isas = detect();
  return isas;
}

const Isa& current_isa() {
  static const Isa& isa = choose();
  return isa;
}

}  // namespace fastnce::cpu
