#include "bindings/arrays/dlpack.h"

#include <optional>
#include <string>
#include <string_view>

#include "fastnce/cuda.h"
#include "fastnce/error.h"

namespace fastnce::bindings {

namespace {

constexpr const char* kLegacy = "dltensor";
constexpr const char* kVersioned = "dltensor_versioned";
constexpr const char* kExchangeApi = "dlpack_exchange_api";

template <class Managed>
Lease take(py::handle capsule, const char* capsule_name, const char* used_name) {
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule.ptr(), capsule_name));
  if (managed == nullptr || PyCapsule_SetName(capsule.ptr(), used_name) != 0) throw py::error_already_set();
  return {managed->tensor, std::shared_ptr<void>(managed, [](void* lent) {
            auto* tensor = static_cast<Managed*>(lent);
            if (tensor->deleter != nullptr) tensor->deleter(tensor);
          })};
}

// The table of C functions of the object's very type: a subclass may lend otherwise than its base.
const dl::ExchangeApi* exchange_api(py::handle object) {
  PyTypeObject* const type = Py_TYPE(object.ptr());
#if PY_VERSION_HEX >= 0x030C0000
  const auto attributes = py::reinterpret_steal<py::object>(PyType_GetDict(type));
#else
  const auto attributes = py::reinterpret_borrow<py::object>(type->tp_dict);
#endif
  if (!attributes) return nullptr;
  PyObject* const capsule = PyDict_GetItemString(attributes.ptr(), "__dlpack_c_exchange_api__");
  if (capsule == nullptr || !PyCapsule_IsValid(capsule, kExchangeApi)) return nullptr;
  const auto* api = static_cast<const dl::ExchangeApi*>(PyCapsule_GetPointer(capsule, kExchangeApi));
  while (api != nullptr && api->version.major != 1) api = api->previous;
  return api;
}

// Imports a tensor through the object's table of C functions, if it has one that can. Does not synchronise.
std::optional<dl::Tensor> borrow_by_table(py::handle object) {
  const dl::ExchangeApi* const api = exchange_api(object);
  if (api == nullptr || api->tensor_from_object == nullptr) return std::nullopt;
  // PyTorch's table lends tensors whose gradients would be lost; its __dlpack__ refuses them.
  if (py::bool_(py::getattr(object, "requires_grad", py::bool_(false)))) return std::nullopt;
  dl::Tensor tensor;
  if (api->tensor_from_object(object.ptr(), &tensor) == 0) return tensor;
  if (PyErr_Occurred()) {
    const py::error_already_set error;
    if (!is_about_the_argument(error)) throw error;
  }
  return std::nullopt;  // __dlpack__ says why not
}

// Of a capsule that is not to be consumed yet.
template <class Managed>
dl::Device peek(py::handle capsule, const char* capsule_name) {
  return static_cast<Managed*>(PyCapsule_GetPointer(capsule.ptr(), capsule_name))->tensor.device;
}

py::object export_from(py::handle producer, const Place& place) {
  py::dict options;
  if (place.device.type == dl::kCuda) options["stream"] = place.stream;
  py::dict newest = options.attr("copy")();
  newest["max_version"] = py::make_tuple(1, 3);
  const py::object method = producer.attr("__dlpack__");
  try {
    return method(**newest);
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_TypeError)) throw;
    return method(**options);  // a producer from before DLPack 1.0
  }
}

// Gradients would be lost silently. PyTorch's own error does not name the remedy.
void refuse_gradients(py::handle producer, const char* name) {
  if (!py::bool_(py::getattr(producer, "requires_grad", py::bool_(false)))) return;
  throw InvalidValue(concat(name,
                            " requires a gradient, which this function does not record: use fastnce.torch, or pass ",
                            name, ".detach()"));
}

// PyTorch's tensors may be marked as the negative of their memory, which DLPack has no word for and PyTorch lends as it
// is.
void refuse_lazy_negation(py::handle producer, const char* name) {
  const py::object is_neg = py::getattr(producer, "is_neg", py::none());
  if (is_neg.is_none() || !py::bool_(is_neg())) return;
  throw InvalidValue(concat(name, " is the negative of its memory: expected a tensor of its own; call resolve_neg()"));
}

bool is_of_tensorflow(py::handle object) {
  const auto module = py::str(py::type::of(object).attr("__module__")).cast<std::string>();
  return module.starts_with("tensorflow.") || module.starts_with("keras.");
}

}  // namespace

bool is_about_the_argument(const py::error_already_set& error) {
  return error.matches(PyExc_Exception) && !error.matches(PyExc_MemoryError);
}

std::string device_name(dl::Device device) {
  const char* kind = device.type == dl::kCpu    ? "cpu"
                     : device.type == dl::kCuda ? "cuda"
                     : device.type == 3         ? "cuda_host"
                     : device.type == 10        ? "rocm"
                     : device.type == 13        ? "cuda_managed"
                                                : nullptr;
  const std::string name = kind != nullptr ? kind : concat("DLPack device type ", device.type);
  return concat(name, ":", device.id);
}

std::string is_a(py::handle object) {
  if (object.is_none()) return " is None";
  const std::string type = Py_TYPE(object.ptr())->tp_name;
  return concat(std::string_view("aeioAEIO").find(type[0]) == std::string_view::npos ? " is a " : " is an ", type);
}

void refuse_traced(py::handle object, const char* name) {
  const std::string_view type = Py_TYPE(object.ptr())->tp_name;
  const char* const remedy = type.ends_with("Tracer") ? "inside jax.jit, grad, vmap and scan use fastnce.jax"
                             : type.ends_with("SymbolicTensor")
                                 ? "inside tf.function call through tf.numpy_function, see docs/tensorflow.md"
                                 : nullptr;
  if (remedy == nullptr) return;
  throw InvalidType(concat(name, is_a(object), ", which has no memory yet: expected an array; ", remedy));
}

void refuse_recorded(py::handle object, const char* name) {
  const std::string_view type = Py_TYPE(object.ptr())->tp_name;
  const auto remedy = [&] {
    return concat(" use tf.custom_gradient, see docs/tensorflow.md, or pass tf.stop_gradient(", name, ")");
  };
  if (type.ends_with("EagerTensor")) {
    // TensorFlow has no public way to ask. Nothing is imported: the module is there wherever a tensor is.
    const py::dict modules = py::module_::import("sys").attr("modules");
    const py::object tapes = modules.attr("get")("tensorflow.python.pywrap_tfe");
    const py::object is_watched = py::getattr(tapes, "TFE_Py_TapeSetShouldRecordBackprop", py::none());
    if (is_watched.is_none() || !py::bool_(is_watched(py::make_tuple(object)))) return;
    throw InvalidValue(concat(name, " is watched by a tf.GradientTape, which cannot record this function:", remedy()));
  }
  if (type.ends_with("Variable") && is_of_tensorflow(object)) {
    throw InvalidType(concat(name, is_a(object), ": expected a tensor; pass ", name, ".value(). A tf.GradientTape ",
                             "cannot record this function: under one", remedy()));
  }
}

dl::Device device_of(py::handle object, const char* name) {
  refuse_traced(object, name);
  if (PyCapsule_IsValid(object.ptr(), kVersioned)) return peek<dl::ManagedTensorVersioned>(object, kVersioned);
  if (PyCapsule_IsValid(object.ptr(), kLegacy)) return peek<dl::ManagedTensor>(object, kLegacy);
  if (const auto tensor = borrow_by_table(object)) return tensor->device;
  if (!py::hasattr(object, "__dlpack_device__")) return {dl::kCpu, 0};
  try {
    const py::tuple device(object.attr("__dlpack_device__")());
    return {device[0].cast<std::int32_t>(), device[1].cast<std::int32_t>()};
  } catch (const py::cast_error&) {
    throw InvalidType(concat(name, ".__dlpack_device__() gave no pair of 32-bit integers"));
  } catch (py::error_already_set& error) {
    if (!is_about_the_argument(error)) throw;
    throw InvalidValue(
        concat(name, " cannot be exported through DLPack: ", py::str(error.value()).cast<std::string>()));
  }
}

void require_place(dl::Device device, const char* name, const Place& place) {
  const bool on_cpu = place.device.type == dl::kCpu;
  if (device.type == place.device.type && (on_cpu || device.id == place.device.id)) return;
  const std::string unavailable = device.type == dl::kCuda ? cuda::unavailable_reason() : "";
  const std::string why = !unavailable.empty()                         ? concat(", since ", unavailable)
                          : std::string_view(name) != place.decided_by ? concat(", the device of ", place.decided_by)
                          : cuda::built()                              ? " or a CUDA device"
                                                                       : "";
  throw InvalidValue(concat(name, " is on device ", device_name(device), ": expected ",
                            on_cpu ? "cpu" : device_name(place.device), why));
}

Lease consume_capsule(py::handle capsule, const char* name, const Place& place) {
  if (PyCapsule_IsValid(capsule.ptr(), kVersioned)) {
    Lease lease = take<dl::ManagedTensorVersioned>(capsule, kVersioned, "used_dltensor_versioned");
    const auto* managed = static_cast<const dl::ManagedTensorVersioned*>(lease.end.get());
    if (managed->version.major != 1) {
      throw InvalidValue(concat(name, " comes with DLPack version ", managed->version.major, ".",
                                managed->version.minor, ": expected major version 1"));
    }
    require_place(lease.tensor.device, name, place);
    return lease;
  }
  if (PyCapsule_IsValid(capsule.ptr(), kLegacy)) {
    Lease lease = take<dl::ManagedTensor>(capsule, kLegacy, "used_dltensor");
    require_place(lease.tensor.device, name, place);
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

Lease lease_from_producer(py::handle producer, const char* name, const Place& place) {
  refuse_gradients(producer, name);
  refuse_lazy_negation(producer, name);
  if (place.device.type == dl::kCpu) {
    if (const auto tensor = borrow_by_table(producer)) {
      require_place(tensor->device, name, place);
      return {*tensor, std::make_shared<py::object>(py::reinterpret_borrow<py::object>(producer))};
    }
  }
  if (py::hasattr(producer, "__dlpack_device__")) require_place(device_of(producer, name), name, place);
  try {
    const py::object capsule = export_from(producer, place);
    if (!PyCapsule_CheckExact(capsule.ptr())) {
      throw InvalidType(concat(name, ".__dlpack__()", is_a(capsule), ": expected a capsule"));
    }
    return consume_capsule(capsule, name, place);
  } catch (py::error_already_set& error) {
    if (!is_about_the_argument(error)) throw;
    throw InvalidValue(
        concat(name, " cannot be exported through DLPack: ", py::str(error.value()).cast<std::string>()));
  }
}

}  // namespace fastnce::bindings
