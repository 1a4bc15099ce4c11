#include "device_memory.h"

#include "fastnce/error.h"

#ifdef FASTNCE_EMULATED_CUDA
#include <cstring>

#include "memory.h"
#else
#include <cuda_runtime.h>
#endif

namespace fastnce {

#ifdef FASTNCE_EMULATED_CUDA

namespace {

// All that these tests give to kernels is in arrays of this file.
[[maybe_unused]] const bool known = (cuda::emulated::require_known_memory(true), true);

}  // namespace

void copy_to_host(void* to, const void* from, std::size_t bytes) {
  cuda::emulated::synchronize();
  if (bytes > 0) std::memcpy(to, from, bytes);
}
void copy_to_device(void* to, const void* from, std::size_t bytes) {
  copy_to_host(to, from, bytes);
  cuda::emulated::note_host_write(to);
}
void poison_on_device(void* memory, std::size_t bytes) {
  cuda::emulated::synchronize();
  std::memset(memory, 0xFF, bytes);
}

OwnStream::OwnStream() { stream_.handle = this; }
OwnStream::~OwnStream() = default;

#else

namespace {

void copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  if (cudaDeviceSynchronize() != cudaSuccess || cudaMemcpy(to, from, bytes, kind) != cudaSuccess) {
    throw DeviceError(cudaGetErrorString(cudaGetLastError()));
  }
}

}  // namespace

void copy_to_device(void* to, const void* from, std::size_t bytes) { copy(to, from, bytes, cudaMemcpyHostToDevice); }
void copy_to_host(void* to, const void* from, std::size_t bytes) { copy(to, from, bytes, cudaMemcpyDeviceToHost); }
void poison_on_device(void* memory, std::size_t bytes) {
  copy_to_device(memory, std::vector<unsigned char>(bytes, 0xFF).data(), bytes);
}

OwnStream::OwnStream() {
  cudaStream_t stream = nullptr;
  if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != cudaSuccess) {
    throw DeviceError(cudaGetErrorString(cudaGetLastError()));
  }
  stream_.handle = stream;
}

OwnStream::~OwnStream() {
  if (cudaStreamDestroy(static_cast<cudaStream_t>(stream_.handle)) != cudaSuccess) cudaGetLastError();
}

#endif

}  // namespace fastnce
