// The memory of a DeviceArray, shared with those who consume its DLPack capsules.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>

#include "fastnce/cuda.h"

namespace fastnce::bindings {

// Memory that was never exported was used on its own stream alone, and is freed in that stream's order.
//
// Exported memory may have readers on streams that we do not know. DLPack's deleter says that the consumer's host code
// is done with it, not that its kernels are. The stream that the consumer named says where it begins, not where it goes
// on: JAX names a stream for the hand-over and computes on others. By then the stream may be destroyed. So the memory
// may be freed only after a wait for the device, and the deleter cannot wait: it may be called in a function that CUDA
// calls, where CUDA's functions are forbidden; while another thread captures a graph, which a wait would spoil; or when
// the process ends, after CUDA. It puts the memory into a list without calling CUDA. The next allocation on that device
// frees the list, after one wait for the device.
//
// The costs: memory that consumers gave back stays occupied until fastnce allocates again, and that allocation waits; a
// capture by another thread at that moment becomes invalid.
// Only calls that wait for their work anyway, those of frameworks without an allocator that we know, allocate here.
class DeviceAllocation {
 public:
  // Frees what was given back, then allocates. `bytes` > 0. May wait, so the caller should not hold the GIL.
  static std::shared_ptr<DeviceAllocation> make(std::size_t bytes, const cuda::Stream& stream);
  DeviceAllocation(const DeviceAllocation&) = delete;

  void* data() const { return data_; }
  void mark_exported() { exported_ = true; }

 private:
  DeviceAllocation(std::size_t bytes, const cuda::Stream& stream)
      : stream_(stream), data_(cuda::allocate(bytes, stream)) {}

  static void push(DeviceAllocation* allocation) noexcept;
  static void free_given_back(int device);
  static void end(DeviceAllocation* allocation) noexcept;
  static void release(DeviceAllocation* allocation) noexcept;

  // Given back and not yet freed, of all devices. Without a constructor and a destructor, so that it is usable as long
  // as the process lives.
  static std::atomic<DeviceAllocation*> given_back_;

  const cuda::Stream stream_;
  void* const data_;
  std::atomic<bool> exported_ = false;
  DeviceAllocation* next_ = nullptr;
};

}  // namespace fastnce::bindings
