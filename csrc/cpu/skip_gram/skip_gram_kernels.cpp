#include "cpu/skip_gram/skip_gram_kernels.h"

namespace fastnce::cpu {

namespace isa_baseline {
extern const SkipGramKernels kSkipGram;
}
#if defined(FASTNCE_X86)
namespace isa_avx2 {
extern const SkipGramKernels kSkipGram;
}
namespace isa_avx512 {
extern const SkipGramKernels kSkipGram;
}
namespace isa_avx512_bf16 {
extern const SkipGramKernels kOneProductSkipGram;
}
#endif

const SkipGramKernels& skip_gram_kernels(Isa isa, Precision precision) {
#if defined(FASTNCE_X86)
  if (isa == Isa::kAvx512Bf16 && precision == Precision::kMedium) return isa_avx512_bf16::kOneProductSkipGram;
  if (full_precision_of(isa) == Isa::kAvx512) return isa_avx512::kSkipGram;
  if (isa == Isa::kAvx2) return isa_avx2::kSkipGram;
#endif
  return isa_baseline::kSkipGram;
}

}  // namespace fastnce::cpu
