#include "bindings/arrays/device_allocation.h"

#include <exception>
#include <utility>

#include "fastnce/error.h"

namespace fastnce::bindings {

constinit std::atomic<DeviceAllocation*> DeviceAllocation::given_back_ = nullptr;

std::shared_ptr<DeviceAllocation> DeviceAllocation::make(std::size_t bytes, const cuda::Stream& stream) {
  free_given_back(stream.device);
  return {new DeviceAllocation(bytes, stream), &DeviceAllocation::end};
}

void DeviceAllocation::end(DeviceAllocation* allocation) noexcept {
  if (allocation->exported_) {
    push(allocation);
  } else {
    release(allocation);
  }
}

void DeviceAllocation::push(DeviceAllocation* allocation) noexcept {
  allocation->next_ = given_back_;
  while (!given_back_.compare_exchange_weak(allocation->next_, allocation)) {
  }
}

void DeviceAllocation::release(DeviceAllocation* allocation) noexcept {
  try {
    cuda::release(allocation->data_, allocation->stream_);
  } catch (const DeviceError&) {  // the process ends, and CUDA has ended before: nothing to give back
  }
  delete allocation;
}

void DeviceAllocation::free_given_back(int device) {
  DeviceAllocation* of_device = nullptr;
  for (DeviceAllocation* rest = given_back_.exchange(nullptr); rest != nullptr;) {
    DeviceAllocation* const first = std::exchange(rest, rest->next_);
    if (first->stream_.device == device) {
      first->next_ = std::exchange(of_device, first);
    } else {
      push(first);
    }
  }
  if (of_device == nullptr) return;
  const auto pop_each = [&](const auto& use) {
    while (of_device != nullptr) use(std::exchange(of_device, of_device->next_));
  };
  try {
    cuda::synchronize_device(device);
  } catch (...) {
    pop_each(push);
    throw;
  }
  pop_each(release);
}

}  // namespace fastnce::bindings
