// Version, instruction sets, precision, threads.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/arrays/array.h"
#include "bindings/ops/register.h"
#include "fastnce/config.h"

namespace fastnce::bindings {

void register_config(py::module_& module) {
  module.def("config", [] {
    std::vector<std::string> isas;
    for (const std::string_view name : isa_available()) isas.emplace_back(name);
    py::dict config;
    config["version"] = std::string(version());
    config["compiler"] = std::string(compiler());
    config["isa"] = std::string(isa_in_use());
    config["isa_available"] = isas;
    config["precision"] = std::string(precision_name(default_precision()));
    config["num_threads"] = num_threads();
    return config;
  });
  module.def("get_precision", [] { return std::string(precision_name(default_precision())); });
  module.def("set_precision", [](py::handle precision) { set_default_precision(precision_argument(precision)); });
  module.def("get_num_threads", [] { return num_threads(); });
  module.def("set_num_threads", [](py::handle threads) { set_num_threads(integer(threads, "num_threads")); });
}

}  // namespace fastnce::bindings
