// Arguments that every call on a CUDA device takes: Python's, as members of a LossRequest. What is borrowed, `gpu`
// holds.
#pragma once

#include <cstdint>
#include <vector>

#include "bindings/arrays/array.h"
#include "bindings/ops/cuda_call.h"
#include "bindings/ops/loss_arguments.h"

namespace fastnce::bindings {

// Throws InvalidType for float64.
Array borrow_cuda_inputs(py::handle inputs, const Place& place);

// A number for each label.
const float* floats_per_label(py::handle given, const char* name, const Place& place, const LossCall& call,
                              CudaCall& gpu);

// Labels and their weights; returns the shape of the labels as passed.
std::vector<std::int64_t> use_targets(const LossArguments& args, const Place& place, LossCall& call, CudaCall& gpu);
void use_exclusions(const LossArguments& args, const Place& place, LossCall& call, CudaCall& gpu);
void use_parts(const LossArguments& args, const Place& place, LossCall& call, CudaCall& gpu);
void use_grad_loss(const LossArguments& args, const Place& place, LossCall& call, CudaCall& gpu);

}  // namespace fastnce::bindings
