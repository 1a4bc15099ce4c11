#include "cpu/sampler/sampler_kernels.h"

namespace fastnce::cpu {

namespace isa_baseline {
extern const LogUniformKernels kLogUniform;
}
#if defined(FASTNCE_X86)
namespace isa_avx2 {
extern const LogUniformKernels kLogUniform;
}
namespace isa_avx512 {
extern const LogUniformKernels kLogUniform;
}
#endif

const LogUniformKernels& log_uniform_kernels(Isa isa) {
#if defined(FASTNCE_X86)
  if (full_precision_of(isa) == Isa::kAvx512) return isa_avx512::kLogUniform;
  if (isa == Isa::kAvx2) return isa_avx2::kLogUniform;
#endif
  return isa_baseline::kLogUniform;
}

}  // namespace fastnce::cpu
