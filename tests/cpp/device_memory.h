// Arrays in the memory of a CUDA device, for tests: uploaded from vectors, downloaded into vectors.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "fastnce/cuda.h"

namespace fastnce {

// Wait for what was queued before on any stream.
void copy_to_device(void* to, const void* from, std::size_t bytes);
void copy_to_host(void* to, const void* from, std::size_t bytes);
void poison_on_device(void* memory, std::size_t bytes);  // with bytes 0xFF, which no kernel should read

// A stream that the default stream does not wait for.
class OwnStream {
 public:
  OwnStream();
  OwnStream(const OwnStream&) = delete;
  ~OwnStream();
  operator const cuda::Stream&() const { return stream_; }

 private:
  cuda::Stream stream_;
};

template <class T>
class DeviceArray {
 public:
  // Of bytes 0xFF: NaN or -1.
  explicit DeviceArray(std::size_t size) : size_(size), data_(static_cast<T*>(cuda::allocate(bytes(), {}))) {
    poison();
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    copy_to_device(data_, values.data(), size_ * sizeof(T));
  }
  DeviceArray(const DeviceArray&) = delete;
  ~DeviceArray() { cuda::release(data_, {}); }

  T* data() const { return data_; }
  void poison() { poison_on_device(data_, bytes()); }
  std::vector<T> values() const {
    std::vector<T> copy(size_);
    copy_to_host(copy.data(), data_, size_ * sizeof(T));
    return copy;
  }

 private:
  std::size_t bytes() const { return size_ * sizeof(T) + 1; }

  std::size_t size_;
  T* data_;
};

// Queues a call on the default stream, with a workspace that is just large enough.
inline void compute_on_device(const LossRequest& request, const LossOutputs& outputs) {
  const cuda::LossPlan plan = cuda::plan(request, 0);
  const DeviceArray<unsigned char> workspace(plan.workspace_bytes);
  cuda::run(plan, outputs, {workspace.data(), plan.workspace_bytes}, {});
}

}  // namespace fastnce
