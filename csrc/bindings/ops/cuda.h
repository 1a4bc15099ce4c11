// Operations on CUDA arrays. `device` is a Device of python/fastnce/_devices.py.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

#include "bindings/ops/loss_arguments.h"
#include "bindings/ops/python_progress.h"
#include "fastnce/sampler.h"

namespace fastnce::bindings {

// The loss, or with gradients: (loss, grad_inputs, row_ids, grad_weights, grad_biases, log_sum_exp, n), all rows of
// which there are B T + S; n is None where rows are to be padded.
py::object cuda_loss(const LossArguments& arguments);

// Over all classes: (loss, grad_inputs, grad_weights, grad_biases, log_sum_exp), all new arrays; `out` must be None.
// Progress is reported once the work is done, for which the call then waits.
py::tuple cuda_full_loss(const LossArguments& arguments, py::handle out, PythonProgress& progress);

// (scores, ids), and ranks in the shape of the labels; likewise.
py::tuple cuda_top_k(const LossArguments& arguments, std::int64_t k, PythonProgress& progress);
py::object cuda_rank_of_labels(const LossArguments& arguments, PythonProgress& progress);

// Scores in the shape of the labels; ranks of scores [n], which are in lists.
py::object cuda_score_labels(const LossArguments& arguments);
py::object cuda_rank_of_scores(const LossArguments& arguments, py::handle scores, py::handle offsets);

// (sampled classes, true counts, sampled counts). `num_groups` may be None: one group, without its axis. `calls` is the
// address of a counter on the device or 0.
py::tuple cuda_candidates(py::handle true_classes, std::int64_t num_true, const SamplerParams& params,
                          py::handle num_groups, std::uintptr_t calls, py::handle device);

// A new array of the rows of two: matrices of one element type with as many columns, or a number for each row; ids
// become int64.
py::object cuda_joined(py::handle first, const char* first_name, std::int64_t first_rows, py::handle second,
                       const char* second_name, std::int64_t second_rows, bool matrices, py::handle device);

}  // namespace fastnce::bindings
