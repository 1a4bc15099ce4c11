#include "bindings/dlpack.h"

#include <string>

#include "fastnce/error.h"

namespace fastnce::bindings {

namespace {

constexpr const char* kLegacy = "dltensor";
constexpr const char* kVersioned = "dltensor_versioned";

// The name that DLPack gives a kind of device, for messages.
std::string device_name(dl::Device device) {
  const char* kind = device.type == 1    ? "cpu"
                     : device.type == 2  ? "cuda"
                     : device.type == 3  ? "cuda_host"
                     : device.type == 10 ? "rocm"
                     : device.type == 13 ? "cuda_managed"
                                         : nullptr;
  const std::string name = kind != nullptr ? kind : concat("DLPack device type ", device.type);
  return concat(name, ":", device.id);
}

void require_cpu(dl::Device device, const char* name) {
  if (device.type != dl::kCpu) {
    throw InvalidValue(concat(name, " is on device ", device_name(device), ": expected cpu (built without CUDA)"));
  }
}

template <class Managed>
Lease take(py::handle capsule, const char* capsule_name, const char* used_name) {
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule.ptr(), capsule_name));
  if (managed == nullptr || PyCapsule_SetName(capsule.ptr(), used_name) != 0) throw py::error_already_set();
  return {&managed->tensor, std::shared_ptr<void>(managed, [](void* lent) {
            auto* tensor = static_cast<Managed*>(lent);
            if (tensor->deleter != nullptr) tensor->deleter(tensor);
          })};
}

}  // namespace

bool is_about_the_argument(const py::error_already_set& error) {
  return error.matches(PyExc_Exception) && !error.matches(PyExc_MemoryError);
}

Lease consume_capsule(py::handle capsule, const char* name) {
  if (PyCapsule_IsValid(capsule.ptr(), kVersioned)) {
    Lease lease = take<dl::ManagedTensorVersioned>(capsule, kVersioned, "used_dltensor_versioned");
    const auto* managed = static_cast<const dl::ManagedTensorVersioned*>(lease.end.get());
    if (managed->version.major != 1) {
      throw InvalidValue(concat(name, " comes with DLPack version ", managed->version.major, ".",
                                managed->version.minor, ": expected major version 1"));
    }
    require_cpu(lease.tensor->device, name);
    return lease;
  }
  if (PyCapsule_IsValid(capsule.ptr(), kLegacy)) {
    Lease lease = take<dl::ManagedTensor>(capsule, kLegacy, "used_dltensor");
    require_cpu(lease.tensor->device, name);
    return lease;
  }
  const char* capsule_name = PyCapsule_GetName(capsule.ptr());
  const std::string got = capsule_name != nullptr ? capsule_name : "unnamed";
  if (got.starts_with("used_")) {
    throw InvalidValue(concat(name, " is a DLPack capsule that was consumed before ('", got,
                              "'): expected a fresh one; export the array again"));
  }
  throw InvalidType(concat(name, " is a capsule named '", got, "': expected '", kLegacy, "' or '", kVersioned, "'"));
}

Lease lease_from_producer(py::handle producer, const char* name) {
  try {
    if (py::hasattr(producer, "__dlpack_device__")) {
      const py::tuple device(producer.attr("__dlpack_device__")());
      require_cpu({device[0].cast<std::int32_t>(), device[1].cast<std::int32_t>()}, name);
    }
    py::object capsule;
    try {
      capsule = producer.attr("__dlpack__")(py::arg("max_version") = py::make_tuple(1, 3));
    } catch (py::error_already_set& error) {
      if (!error.matches(PyExc_TypeError)) throw;
      capsule = producer.attr("__dlpack__")();  // a producer from before DLPack 1.0
    }
    if (!PyCapsule_CheckExact(capsule.ptr())) {
      throw InvalidType(concat(name, ".__dlpack__() gave no capsule but a ", Py_TYPE(capsule.ptr())->tp_name));
    }
    return consume_capsule(capsule, name);
  } catch (const py::cast_error&) {
    throw InvalidType(concat(name, ".__dlpack_device__() gave no pair of 32-bit integers"));
  } catch (py::error_already_set& error) {
    if (!is_about_the_argument(error)) throw;
    throw InvalidValue(concat(name, " cannot be lent through DLPack: ", py::str(error.value()).cast<std::string>()));
  }
}

}  // namespace fastnce::bindings
