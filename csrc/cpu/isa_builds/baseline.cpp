// Whatever the target architecture guarantees: SSE2 on x86-64, NEON on AArch64.
#define FASTNCE_ISA_NAMESPACE isa_baseline
#define FASTNCE_ISA_VECTOR_BYTES 16

#include "cpu/isa_builds/full_precision-inl.h"
