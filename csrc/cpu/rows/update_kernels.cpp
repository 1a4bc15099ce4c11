#include "cpu/rows/update_kernels.h"

namespace fastnce::cpu {

namespace isa_baseline {
extern const FullPrecisionUpdate kUpdate;
}
#if defined(FASTNCE_X86)
namespace isa_avx2 {
extern const FullPrecisionUpdate kUpdate;
}
namespace isa_avx512 {
extern const FullPrecisionUpdate kUpdate;
}
#endif

namespace {

const FullPrecisionUpdate& full_precision(Isa isa) {
#if defined(FASTNCE_X86)
  if (full_precision_of(isa) == Isa::kAvx512) return isa_avx512::kUpdate;
  if (isa == Isa::kAvx2) return isa_avx2::kUpdate;
#endif
  return isa_baseline::kUpdate;
}

}  // namespace

template <>
const UpdateKernels<float>& update_kernels(Isa isa) {
  return full_precision(isa).f32;
}

template <>
const UpdateKernels<double>& update_kernels(Isa isa) {
  return full_precision(isa).f64;
}

}  // namespace fastnce::cpu
