#include "cpu/runtime/isa.h"

#include <cstdlib>
#include <string>
#include <vector>

#include "cpu/runtime/amx_permission.h"
#include "fastnce/error.h"

namespace fastnce::cpu {

namespace {

std::vector<Isa> detect() {
  std::vector<Isa> found{Isa::kBaseline};
#if defined(FASTNCE_X86)
  // The compiler's run-time library asks both the processor and the operating system (xgetbv).
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(Isa::kAvx2);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma")) {
    found.push_back(Isa::kAvx512);
    if (__builtin_cpu_supports("avx512bf16")) {
      // Intel's cores multiply bfloat16 pairs in vectors at half the rate of float32, measured on Emerald Rapids: where
      // AMX is masked off, all is full precision. AMD's do so at twice the rate.
      const auto at = __builtin_cpu_is("intel") ? found.end() - 1 : found.end();
      found.insert(at, Isa::kAvx512Bf16);
      if (amx_permitted()) found.push_back(Isa::kAmx);
    }
  }
#endif
  return found;
}

Isa choose() {
  const std::span<const Isa> isas = available_isas();
  const char* wanted = std::getenv("FASTNCE_ISA");
  if (wanted == nullptr || *wanted == '\0') return isas.back();
  std::string names;
  for (const Isa isa : isas) {
    if (std::string(name_of(isa)) == wanted) return isa;
    names += (names.empty() ? "" : ", ") + std::string(name_of(isa));
  }
  throw InvalidValue(concat("FASTNCE_ISA = '", wanted, "' is not available: expected one of ", names));
}

}  // namespace

const char* name_of(Isa isa) {
  switch (isa) {
    case Isa::kBaseline: return "baseline";
    case Isa::kAvx2: return "avx2";
    case Isa::kAvx512: return "avx512";
    case Isa::kAvx512Bf16: return "avx512_bf16";
    case Isa::kAmx: break;
  }
  return "amx";
}

std::span<const Isa> available_isas() {
  static const std::vector<Isa> isas = detect();
  return isas;
}

Isa current_isa() {
  static const Isa isa = choose();
  return isa;
}

}  // namespace fastnce::cpu
