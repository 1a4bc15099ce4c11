// C++20, CUDA's runtime and CUB's headers: what the backend takes from the toolkit.
#include <concepts>

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <cub/version.cuh>

template <std::integral T>
__global__ void set(T* to) {
  *to = CUB_VERSION;
}

int main() {
  int* value = nullptr;
  if (cudaMallocManaged(&value, sizeof *value) != cudaSuccess) return 1;
  set<<<1, 1>>>(value);
  return cudaDeviceSynchronize() == cudaSuccess ? 0 : 1;
}
