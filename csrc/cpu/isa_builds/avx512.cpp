// AVX-512 F, BW, DQ and VL.
#define FASTNCE_ISA_NAMESPACE isa_avx512
#define FASTNCE_ISA_VECTOR_BYTES 64

#include "cpu/isa_builds/full_precision-inl.h"
