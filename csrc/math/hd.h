// FASTNCE_HD marks the functions of math/ that compile for the host and for CUDA devices alike.
//
// On the host they are always inlined and have no linkage of their own: the same header is compiled into files with
// different instruction-set flags, and a shared out-of-line copy would let the linker hand AVX-512 code to every
// caller.
#pragma once

#if defined(__CUDACC__)
#define FASTNCE_HD __host__ __device__ __forceinline__
#else
#define FASTNCE_HD [[gnu::always_inline]] inline
#endif
