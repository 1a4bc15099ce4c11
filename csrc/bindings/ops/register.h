// One function per topic, each adding its part of the module.
#pragma once

#include <pybind11/pybind11.h>

namespace fastnce::bindings {

void register_config(pybind11::module_& module);
void register_distribution(pybind11::module_& module);
void register_sampler(pybind11::module_& module);
void register_cuda(pybind11::module_& module);
void register_loss(pybind11::module_& module);
void register_optimizer(pybind11::module_& module);
void register_evaluate(pybind11::module_& module);
void register_skip_gram(pybind11::module_& module);
void register_text(pybind11::module_& module);
void register_jax(pybind11::module_& module);

}  // namespace fastnce::bindings
