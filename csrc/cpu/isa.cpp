#include "cpu/isa.h"

#include <cstdlib>
#include <string>
#include <vector>

#include "cpu/amx_permission.h"
#include "fastnce/error.h"

namespace fastnce::cpu {

namespace isa_baseline {
extern const FullPrecisionKernels kKernels;
}

#if defined(FASTNCE_X86)
namespace isa_avx2 {
extern const FullPrecisionKernels kKernels;
}
namespace isa_avx512 {
extern const FullPrecisionKernels kKernels;
}
namespace isa_avx512_bf16 {
extern const TileKernels<float> kOneProduct;
}
namespace isa_amx {
extern const TileKernels<float> kSixProducts;
extern const TileKernels<float> kThreeProducts;
extern const TileKernels<float> kOneProduct;
}  // namespace isa_amx
#endif

namespace {

// What "highest", "high" and "medium" mean to float32 on each instruction set.
constexpr Isa kBaseline{"baseline", &isa_baseline::kKernels, {}};
#if defined(FASTNCE_X86)
constexpr Isa kAvx2{"avx2", &isa_avx2::kKernels, {}};
constexpr Isa kAvx512{"avx512", &isa_avx512::kKernels, {}};
constexpr Isa kAvx512Bf16{"avx512_bf16", &isa_avx512::kKernels, {nullptr, nullptr, &isa_avx512_bf16::kOneProduct}};
constexpr Isa kAmx{
    "amx", &isa_avx512::kKernels, {&isa_amx::kSixProducts, &isa_amx::kThreeProducts, &isa_amx::kOneProduct}};
#endif

std::vector<const Isa*> detect() {
  std::vector<const Isa*> found{&kBaseline};
#if defined(FASTNCE_X86)
  // The compiler's run-time library asks both the processor and the operating system (xgetbv).
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&kAvx2);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma")) {
    found.push_back(&kAvx512);
    if (__builtin_cpu_supports("avx512bf16")) {
      // Intel's cores multiply bfloat16 pairs in vectors at half the rate of float32, measured on Emerald Rapids: where
      // AMX is masked off, all is full precision. AMD's do so at twice the rate.
      const auto at = __builtin_cpu_is("intel") ? found.end() - 1 : found.end();
      found.insert(at, &kAvx512Bf16);
      if (amx_permitted()) found.push_back(&kAmx);
    }
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
