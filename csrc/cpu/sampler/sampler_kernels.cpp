#include "cpu/sampler/sampler_kernels.h"

namespace fastnce::cpu {

namespace isa_baseline {
extern const SamplerKernels kSampler;
}
#if defined(FASTNCE_X86)
namespace isa_avx2 {
extern const SamplerKernels kSampler;
}
namespace isa_avx512 {
extern const SamplerKernels kSampler;
}
#endif

const SamplerKernels& sampler_kernels(Isa isa) {
#if defined(FASTNCE_X86)
  if (full_precision_of(isa) == Isa::kAvx512) return isa_avx512::kSampler;
  if (isa == Isa::kAvx2) return isa_avx2::kSampler;
#endif
  return isa_baseline::kSampler;
}

}  // namespace fastnce::cpu
