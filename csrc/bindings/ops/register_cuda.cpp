// The CUDA devices of this machine, and memory on them.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <limits>
#include <string>
#include <utility>

#include "bindings/arrays/device_array.h"
#include "bindings/arrays/without_gil.h"
#include "bindings/ops/cuda.h"
#include "bindings/ops/cuda_call.h"
#include "bindings/ops/register.h"
#include "fastnce/cuda.h"
#include "fastnce/error.h"

namespace fastnce::bindings {

namespace {

// The CUDA device that an argument lies on, which decides where a call works. None for the CPU, and for devices that
// cannot be used: borrowing the argument for the CPU then says so.
py::object cuda_device_of(py::handle object, const std::string& name) {
  if (py::isinstance<py::array>(object)) return py::none();
  const dl::Device device = device_of(object, name.c_str());
  if (device.type != dl::kCuda || !cuda::unavailable_reason().empty()) return py::none();
  return py::int_(device.id);
}

DeviceArray rows_of(const DeviceArray& array, const py::slice& rows) {
  py::ssize_t begin = 0, end = 0, step = 0, count = 0;
  if (array.shape().empty() || !rows.compute(array.shape()[0], &begin, &end, &step, &count)) {
    throw InvalidValue(concat("shape ", shape_text(array.shape()), ": expected rows to take some of"));
  }
  if (step != 1) throw InvalidValue(concat("step = ", step, ": expected 1, rows that follow each other"));
  return array.rows(begin, count);
}

void register_device_array(py::module_& module) {
  py::class_<DeviceArray>(module, "DeviceArray",
                          "An array in device memory of fastnce's own, to be fetched through ``__dlpack__``.")
      .def("__getitem__", &rows_of, py::arg("rows"), "Rows that follow each other, in the same memory.")
      .def("__dlpack__", &DeviceArray::export_capsule, py::kw_only(), py::arg("stream") = py::none(),
           py::arg("max_version") = py::none(), py::arg("dl_device") = py::none(), py::arg("copy") = py::none())
      .def("__dlpack_device__", [](const DeviceArray& array) { return std::pair(int{dl::kCuda}, array.device()); })
      .def("__repr__",
           [](const DeviceArray& array) {
             return concat("DeviceArray(shape=", shape_text(array.shape()), ", dtype=", array.dtype(),
                           ", device=cuda:", array.device(), ")");
           })
      .def_property_readonly("address", &DeviceArray::address)
      .def_property_readonly("dtype", &DeviceArray::dtype)
      .def_property_readonly("shape", [](const DeviceArray& array) { return py::tuple(py::cast(array.shape())); });
}

}  // namespace

void register_cuda(py::module_& module) {
  register_device_array(module);
  module.def("new_device_array", [](const std::string& dtype, std::vector<std::int64_t> shape, py::handle device) {
    const cuda::Stream stream = stream_of(device);
    const WithoutGil released;
    return DeviceArray(dtype, std::move(shape), stream);
  });
  module.def("cuda_built", &cuda::built);
  module.def("cuda_unavailable_reason", &cuda::unavailable_reason);
  module.def("cuda_devices", [] {
    py::list found;
    for (const cuda::Device& device : cuda::devices()) {
      found.append(py::make_tuple(device.name, py::make_tuple(device.major, device.minor), device.multiprocessors,
                                  device.memory_bytes));
    }
    return found;
  });
  module.def("cuda_device_of", &cuda_device_of, py::arg("object"), py::arg("name"));
  module.def("cuda_check", [](py::handle device) {
    const std::int64_t index = integer(device, "device");
    if (index < 0 || index > std::numeric_limits<int>::max()) {
      throw InvalidValue(concat("device = ", index, ": expected a CUDA device number"));
    }
    const WithoutGil released;
    cuda::check(static_cast<int>(index));
  });
  module.def("cuda_synchronize", [](py::handle device) {
    const cuda::Stream stream = stream_of(device);
    const WithoutGil released;
    cuda::synchronize(stream);
  });
  // Counters in device memory, by address.
  module.def("cuda_read", [](std::uintptr_t address, py::handle device) {
    const cuda::Stream stream = stream_of(device);
    const WithoutGil released;
    return cuda::read(reinterpret_cast<const std::int64_t*>(address), stream);
  });
  module.def("cuda_write", [](std::int64_t value, std::uintptr_t address, py::handle device) {
    cuda::write(value, reinterpret_cast<std::int64_t*>(address), stream_of(device));
  });
  module.def("cuda_joined", &cuda_joined, py::arg("first"), py::arg("first_name"), py::arg("first_rows"),
             py::arg("second"), py::arg("second_name"), py::arg("second_rows"), py::arg("matrices"), py::arg("device"));
  module.def("cuda_fill", [](float value, std::int64_t count, std::uintptr_t address, py::handle device) {
    cuda::fill(value, count, reinterpret_cast<float*>(address), stream_of(device));
  });
  module.def("cuda_count_up", [](std::int64_t count, std::uintptr_t address, py::handle device) {
    cuda::count_up(count, reinterpret_cast<std::int64_t*>(address), stream_of(device));
  });
}

}  // namespace fastnce::bindings
