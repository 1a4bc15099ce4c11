// What "highest", "high" and "medium" mean to float32 on each instruction set.
#include "cpu/loss/loss_kernels.h"

namespace fastnce::cpu {

namespace isa_baseline {
extern const FullPrecisionLoss kLoss;
}
#if defined(FASTNCE_X86)
namespace isa_avx2 {
extern const FullPrecisionLoss kLoss;
}
namespace isa_avx512 {
extern const FullPrecisionLoss kLoss;
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

const FullPrecisionLoss& full_precision(Isa isa) {
#if defined(FASTNCE_X86)
  if (full_precision_of(isa) == Isa::kAvx512) return isa_avx512::kLoss;
  if (isa == Isa::kAvx2) return isa_avx2::kLoss;
#endif
  return isa_baseline::kLoss;
}

}  // namespace

template <>
const LossKernels<float>& loss_kernels(Isa isa) {
  return full_precision(isa).loss_f32;
}

template <>
const LossKernels<double>& loss_kernels(Isa isa) {
  return full_precision(isa).loss_f64;
}

template <>
const TileKernels<float>& tile_kernels(Isa isa, Precision precision) {
#if defined(FASTNCE_X86)
  if (isa == Isa::kAmx) {
    switch (precision) {
      case Precision::kHighest: return isa_amx::kSixProducts;
      case Precision::kHigh: return isa_amx::kThreeProducts;
      case Precision::kMedium: return isa_amx::kOneProduct;
    }
  }
  if (isa == Isa::kAvx512Bf16 && precision == Precision::kMedium) return isa_avx512_bf16::kOneProduct;
#endif
  return full_precision(isa).tiles_f32;
}

template <>
const TileKernels<double>& tile_kernels(Isa isa, Precision) {
  return full_precision(isa).tiles_f64;
}

template <>
const TileKernels<float>& gather_kernels(Isa isa) {
  return full_precision(isa).gather_f32;
}

template <>
const TileKernels<double>& gather_kernels(Isa isa) {
  return full_precision(isa).gather_f64;
}

}  // namespace fastnce::cpu
