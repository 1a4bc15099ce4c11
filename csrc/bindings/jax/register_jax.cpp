// The handlers for XLA's foreign function interface, by platform and name, for jax.ffi.register_ffi_target.
#include <pybind11/pybind11.h>

#include "bindings/jax/jax_ffi.h"
#include "bindings/ops/register.h"
#include "fastnce/cuda.h"

namespace fastnce::bindings {

void register_jax(pybind11::module_& module) {
  namespace py = pybind11;
  const auto capsule = [](xla::Handler* handler) { return py::capsule(reinterpret_cast<void*>(handler)); };
  py::dict handlers;
  handlers["cpu"] = py::dict(py::arg("fastnce_sampled_loss") = capsule(jax::kLossOnCpu),
                             py::arg("fastnce_log_uniform") = capsule(jax::kSamplerOnCpu),
                             py::arg("fastnce_set_rows") = capsule(jax::kSetRowsOnCpu),
                             py::arg("fastnce_update_rows") = capsule(jax::kUpdateRowsOnCpu),
                             py::arg("fastnce_top_k") = capsule(jax::kTopKOnCpu),
                             py::arg("fastnce_rank_of_labels") = capsule(jax::kRanksOnCpu));
  if (cuda::built()) {
    handlers["CUDA"] = py::dict(py::arg("fastnce_sampled_loss") = capsule(jax::kLossOnCuda),
                                py::arg("fastnce_log_uniform") = capsule(jax::kSamplerOnCuda),
                                py::arg("fastnce_update_rows") = capsule(jax::kUpdateRowsOnCuda));
  }
  module.attr("jax_handlers") = handlers;
}

}  // namespace fastnce::bindings
