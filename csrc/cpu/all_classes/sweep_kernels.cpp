// What "highest", "high" and "medium" mean to passes over all classes: the same as to the sampled losses.
#include "cpu/all_classes/sweep_kernels.h"

namespace fastnce::cpu {

namespace isa_baseline {
extern const FullPrecisionSweep kSweep;
}
#if defined(FASTNCE_X86)
namespace isa_avx2 {
extern const FullPrecisionSweep kSweep;
}
namespace isa_avx512 {
extern const FullPrecisionSweep kSweep;
}
namespace isa_avx512_bf16 {
extern const SweepKernels<float> kOneProductSweep;
}
namespace isa_amx {
extern const SweepKernels<float> kSixProductsSweep;
extern const SweepKernels<float> kThreeProductsSweep;
extern const SweepKernels<float> kOneProductSweep;
}  // namespace isa_amx
#endif

namespace {

const FullPrecisionSweep& full_precision(Isa isa) {
#if defined(FASTNCE_X86)
  if (full_precision_of(isa) == Isa::kAvx512) return isa_avx512::kSweep;
  if (isa == Isa::kAvx2) return isa_avx2::kSweep;
#endif
  return isa_baseline::kSweep;
}

}  // namespace

template <>
const SweepKernels<float>& sweep_kernels(Isa isa, Precision precision) {
#if defined(FASTNCE_X86)
  if (isa == Isa::kAmx) {
    switch (precision) {
      case Precision::kHighest: return isa_amx::kSixProductsSweep;
      case Precision::kHigh: return isa_amx::kThreeProductsSweep;
      case Precision::kMedium: return isa_amx::kOneProductSweep;
    }
  }
  if (isa == Isa::kAvx512Bf16 && precision == Precision::kMedium) return isa_avx512_bf16::kOneProductSweep;
#endif
  return full_precision(isa).f32;
}

template <>
const SweepKernels<double>& sweep_kernels(Isa isa, Precision) {
  return full_precision(isa).f64;
}

}  // namespace fastnce::cpu
