// AVX2 and FMA: every x86-64 server and desktop since 2013 (Intel) and 2015 (AMD).
#define FASTNCE_ISA_NAMESPACE isa_avx2
#define FASTNCE_ISA_VECTOR_BYTES 32

#include "cpu/isa_builds/full_precision-inl.h"
