// Device intrinsics and launches. Kernels include nothing else of CUDA, so that the tests can replace this file by a
// version in which a block of threads runs on the host.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/runtime/runtime.h"
#include "fastnce/cuda.h"

#define FASTNCE_DEVICE __device__ __forceinline__
#define FASTNCE_KERNEL(most_threads, least_blocks) static __global__ void __launch_bounds__(most_threads, least_blocks)
// A kernel takes one struct, whose arrays it may index without a copy in local memory.
#define FASTNCE_ARGUMENTS const __grid_constant__

namespace fastnce::cuda {

inline constexpr int kWarp = 32;

FASTNCE_DEVICE int thread_index() { return static_cast<int>(threadIdx.x); }
FASTNCE_DEVICE int block_threads() { return static_cast<int>(blockDim.x); }
FASTNCE_DEVICE std::int64_t block_x() { return blockIdx.x; }
FASTNCE_DEVICE std::int64_t block_y() { return blockIdx.y; }
FASTNCE_DEVICE std::int64_t grid_x() { return gridDim.x; }

// The block's shared memory, aligned to 128 bytes.
FASTNCE_DEVICE unsigned char* shared_memory() {
  extern __shared__ __align__(128) unsigned char fastnce_shared[];
  return fastnce_shared;
}

// Compiler barrier: values are reloaded instead of being held in registers.
FASTNCE_DEVICE void forget_loads() { asm volatile("" ::: "memory"); }

FASTNCE_DEVICE void sync_block() { __syncthreads(); }

// What a lane has written before, the warp's other lanes read after. The warp-wide operations below promise no such
// order.
FASTNCE_DEVICE void sync_warp() { __syncwarp(); }

template <class T>
FASTNCE_DEVICE T shuffle(T value, int lane) {  // what `lane` brought
  return __shfl_sync(0xFFFFFFFFu, value, lane);
}
template <class T>
FASTNCE_DEVICE T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(0xFFFFFFFFu, value, mask);
}
template <class T>
FASTNCE_DEVICE T shuffle_up(T value, int distance) {  // lanes below `distance` keep their own
  return __shfl_up_sync(0xFFFFFFFFu, value, distance);
}

// Where row `row` of an array begins, in elements. In 64 bits: tables have more than 2^31 elements.
FASTNCE_DEVICE std::int64_t row_offset(std::int64_t row, std::int64_t pitch) { return row * pitch; }

// 8 and 16 bytes in one access, aligned to as many.
struct alignas(8) Words2 {
  std::uint32_t word[2];
};
struct alignas(16) Words4 {
  std::uint32_t word[4];
};
FASTNCE_DEVICE Words2 load_8_bytes(const void* from) {
  const uint2 words = *static_cast<const uint2*>(from);
  return {{words.x, words.y}};
}
FASTNCE_DEVICE Words4 load_16_bytes(const void* from) {
  const uint4 words = *static_cast<const uint4*>(from);
  return {{words.x, words.y, words.z, words.w}};
}
// To global memory, whose addresses are the same in the generic space. Assignments would not do: nvcc makes four stores
// of some.
FASTNCE_DEVICE void store_8_bytes(void* to, const Words2& words) {
  asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(to), "r"(words.word[0]), "r"(words.word[1]) : "memory");
}
FASTNCE_DEVICE void store_16_bytes(void* to, const Words4& words) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(words.word[0]), "r"(words.word[1]),
               "r"(words.word[2]), "r"(words.word[3])
               : "memory");
}
FASTNCE_DEVICE void copy_16_bytes(void* to, const void* from) { store_16_bytes(to, load_16_bytes(from)); }

using AtomicWord = unsigned long long;
FASTNCE_DEVICE AtomicWord atomic_cas(AtomicWord* word, AtomicWord expected, AtomicWord desired) {
  return atomicCAS(word, expected, desired);
}
FASTNCE_DEVICE void atomic_min(AtomicWord* word, AtomicWord value) { atomicMin(word, value); }
FASTNCE_DEVICE AtomicWord atomic_add(AtomicWord* word, AtomicWord value) { return atomicAdd(word, value); }
FASTNCE_DEVICE void atomic_or(AtomicWord* word, AtomicWord value) { atomicOr(word, value); }
// Bypasses the L1 cache, which does not see other threads' atomics.
FASTNCE_DEVICE AtomicWord load_shared_word(const AtomicWord* word) { return __ldcg(word); }

// Conversions round to nearest, ties to even.
FASTNCE_DEVICE float from_float16(std::uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
FASTNCE_DEVICE std::uint16_t to_float16(float value) { return __half_as_ushort(__float2half_rn(value)); }
FASTNCE_DEVICE float from_bfloat16(std::uint16_t bits) { return __uint_as_float(std::uint32_t{bits} << 16); }
// Two bfloat16 in one word, `low` in its lower half.
FASTNCE_DEVICE std::uint32_t to_bfloat16_pair(float low, float high) {
  std::uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

// On the special-function units: absolute error of log2 below 2^-21, relative error of the others about 2^-22.
FASTNCE_DEVICE float approximate_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
FASTNCE_DEVICE float approximate_log2(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
FASTNCE_DEVICE float approximate_reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// An address in shared memory as the instructions below take it.
using SharedAddress = std::uint32_t;
FASTNCE_DEVICE SharedAddress shared_address(const void* pointer) {
  return static_cast<SharedAddress>(__cvta_generic_to_shared(pointer));
}

// Copies 16 bytes from global memory, both ends aligned to 16. A thread's copies since its last commit form a group;
// wait_for_copies<N>() returns when all of its groups but the last N have arrived. Other threads see them after a
// barrier.
FASTNCE_DEVICE void copy_async(SharedAddress to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
FASTNCE_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
FASTNCE_DEVICE void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Four 8 x 8 matrices of 16-bit elements, distributed over the warp as multiply_add() needs them. Lane l gives the
// address of row l % 8 of matrix l / 8; it gets elements 2 (l % 4) and 2 (l % 4) + 1 of row l / 4 of each, or of column
// l / 4 of each, transposed.
FASTNCE_DEVICE void load_matrices(std::uint32_t (&matrix)[4], SharedAddress row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(matrix[0]), "=r"(matrix[1]), "=r"(matrix[2]), "=r"(matrix[3])
               : "r"(row)
               : "memory");
}
FASTNCE_DEVICE void load_matrices_transposed(std::uint32_t (&matrix)[4], SharedAddress row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(matrix[0]), "=r"(matrix[1]), "=r"(matrix[2]), "=r"(matrix[3])
               : "r"(row)
               : "memory");
}

// c += A B for A [16, 16] and B [16, 8] in bfloat16, C [16, 8] in float32. With g = lane / 4, t = lane % 4 a lane holds
// of A rows g and g + 8, of B column g, and of C elements (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
FASTNCE_DEVICE void multiply_add(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// The same in float16.
FASTNCE_DEVICE void multiply_add_float16(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                         std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Blocks of a launch; along y at most 65535.
struct Grid {
  std::int64_t x = 1, y = 1;
};

// Queues a kernel; does nothing for a grid without blocks.
template <class Arguments>
void launch(void (*kernel)(Arguments), const Grid& grid, int threads, int shared_bytes, const Stream& stream,
            const Arguments& arguments) {
  constexpr int kSharedByDefault = 48 * 1024;
  if (grid.x == 0 || grid.y == 0) return;
  if (shared_bytes > kSharedByDefault) {
    runtime::require(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  }
  const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y));
  kernel<<<blocks, threads, static_cast<std::size_t>(shared_bytes), static_cast<cudaStream_t>(stream.handle)>>>(
      arguments);
  runtime::require(cudaGetLastError());
}

}  // namespace fastnce::cuda
