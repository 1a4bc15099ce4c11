#include "bindings/arrays/device_array.h"

#include <utility>

#include "bindings/arrays/array.h"
#include "fastnce/error.h"

namespace fastnce::bindings {

namespace {

dl::DataType dlpack_type(const std::string& dtype) {
  if (dtype == "float32") return {dl::kFloat, 32, 1};
  if (dtype == "float64") return {dl::kFloat, 64, 1};
  if (dtype == "float16") return {dl::kFloat, 16, 1};
  if (dtype == "bfloat16") return {dl::kBfloat, 16, 1};
  if (dtype == "int64") return {dl::kInt, 64, 1};
  if (dtype == "uint8") return {dl::kUInt, 8, 1};
  throw InvalidValue(concat("dtype = '", dtype, "': expected float32, float64, float16, bfloat16, int64 or uint8"));
}

std::int64_t bytes_of(const std::string& dtype, const std::vector<std::int64_t>& shape) {
  return count(shape) * (dlpack_type(dtype).bits / 8);
}

// What a capsule points to. No Python object among it: a consumer may delete it without Python's lock.
template <class Managed>
struct Export {
  Managed managed{};
  std::shared_ptr<DeviceAllocation> memory;
  std::vector<std::int64_t> shape, strides;
};

template <class Managed>
py::capsule new_capsule(std::unique_ptr<Export<Managed>> exported, const char* name, PyCapsule_Destructor destroy) {
  exported->managed.manager_context = exported.get();
  exported->managed.deleter = [](Managed* managed) { delete static_cast<Export<Managed>*>(managed->manager_context); };
  PyObject* const capsule = PyCapsule_New(&exported->managed, name, destroy);
  if (capsule == nullptr) throw py::error_already_set();
  exported.release();
  return py::reinterpret_steal<py::capsule>(capsule);
}

// A capsule that was not consumed still has its name.
template <class Managed>
void destroy(PyObject* capsule, const char* name) {
  if (!PyCapsule_IsValid(capsule, name)) return;
  auto* const managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
  managed->deleter(managed);
}

[[noreturn]] void refuse_export(const char* text) {
  PyErr_SetString(PyExc_BufferError, text);
  throw py::error_already_set();
}

}  // namespace

DeviceArray::DeviceArray(const std::string& dtype, std::vector<std::int64_t> shape, const cuda::Stream& stream)
    : dtype_(dtype), shape_(std::move(shape)), stream_(stream) {
  const std::int64_t bytes = bytes_of(dtype_, shape_);
  if (bytes > 0) memory_ = DeviceAllocation::make(static_cast<std::size_t>(bytes), stream);
}

DeviceArray DeviceArray::rows(std::int64_t begin, std::int64_t count) const {
  DeviceArray some = *this;
  some.shape_[0] = begin;
  some.first_byte_ += bytes_of(dtype_, some.shape_);
  some.shape_[0] = count;
  return some;
}

void DeviceArray::make_wait(py::handle stream) const {
  const std::int64_t number = stream.is_none() ? 1 : integer(stream, "stream");
  if (number == -1) return;  // the consumer synchronises
  if (number < 1) {
    throw InvalidValue(concat("stream = ", number, ": expected None, -1, 1, 2 or the address of a CUDA stream"));
  }
  const cuda::Stream waiting{stream_.device, number == 1 ? nullptr : reinterpret_cast<void*>(number)};
  if (waiting.handle != stream_.handle) cuda::wait_for(waiting, stream_);
}

py::capsule DeviceArray::export_capsule(py::handle stream, py::handle max_version, py::handle dl_device,
                                        py::handle copy) const {
  if (!copy.is_none() && boolean(copy, "copy")) refuse_export("a DeviceArray cannot be copied: expected copy=False");
  if (!dl_device.is_none() &&
      !py::make_tuple(int{dl::kCuda}, device()).equal(py::tuple(py::reinterpret_borrow<py::object>(dl_device)))) {
    refuse_export("a DeviceArray cannot be moved: expected its own device");
  }
  make_wait(stream);
  if (memory_ != nullptr) memory_->mark_exported();
  const bool versioned =
      !max_version.is_none() && py::tuple(py::reinterpret_borrow<py::object>(max_version))[0].cast<int>() >= 1;
  const auto fill = [&](auto& exported) {
    exported.memory = memory_;
    exported.shape = shape_;
    exported.strides.assign(shape_.size(), 1);
    for (std::size_t i = shape_.size(); i-- > 1;) exported.strides[i - 1] = exported.strides[i] * shape_[i];
    exported.managed.tensor = {.data = data(),
                               .device = {dl::kCuda, device()},
                               .ndim = static_cast<std::int32_t>(shape_.size()),
                               .dtype = dlpack_type(dtype_),
                               .shape = exported.shape.data(),
                               .strides = exported.strides.data(),
                               .byte_offset = 0};
  };
  if (!versioned) {
    auto exported = std::make_unique<Export<dl::ManagedTensor>>();
    fill(*exported);
    return new_capsule(std::move(exported), "dltensor",
                       [](PyObject* capsule) { destroy<dl::ManagedTensor>(capsule, "dltensor"); });
  }
  auto exported = std::make_unique<Export<dl::ManagedTensorVersioned>>();
  fill(*exported);
  exported->managed.version = {1, 0};
  return new_capsule(std::move(exported), "dltensor_versioned",
                     [](PyObject* capsule) { destroy<dl::ManagedTensorVersioned>(capsule, "dltensor_versioned"); });
}

}  // namespace fastnce::bindings
