// Results in device memory that fastnce owns, for frameworks without an allocator that it could use; exported by
// DLPack.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bindings/arrays/device_allocation.h"
#include "bindings/arrays/dlpack.h"
#include "fastnce/cuda.h"

namespace fastnce::bindings {

class DeviceArray {
 public:
  // Uninitialised memory. `dtype` is "float32", "float64", "float16", "bfloat16", "int64" or "uint8". Throws
  // InvalidValue for others. May wait for the device, so the caller should not hold the GIL.
  DeviceArray(const std::string& dtype, std::vector<std::int64_t> shape, const cuda::Stream& stream);

  // `count` rows from row `begin` on, which there must be; they share the memory.
  DeviceArray rows(std::int64_t begin, std::int64_t count) const;

  // DLPack's producer protocol. A capsule shares ownership of the memory and may release it in any thread, with or
  // without the GIL. `stream` waits for what is queued on the array's own.
  py::capsule export_capsule(py::handle stream, py::handle max_version, py::handle dl_device, py::handle copy) const;

  const std::string& dtype() const { return dtype_; }
  const std::vector<std::int64_t>& shape() const { return shape_; }
  int device() const { return stream_.device; }
  std::uintptr_t address() const { return reinterpret_cast<std::uintptr_t>(data()); }

 private:
  void make_wait(py::handle stream) const;
  void* data() const { return memory_ != nullptr ? static_cast<std::byte*>(memory_->data()) + first_byte_ : nullptr; }

  std::string dtype_;
  std::vector<std::int64_t> shape_;
  cuda::Stream stream_;
  std::int64_t first_byte_ = 0;
  std::shared_ptr<DeviceAllocation> memory_;  // null if there are no elements
};

}  // namespace fastnce::bindings
