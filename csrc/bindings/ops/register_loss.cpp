// The sampled losses: from Python's arguments to one LossRequest and back, on the CPU.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "bindings/arrays/row_padding.h"
#include "bindings/arrays/without_gil.h"
#include "bindings/ops/cuda.h"
#include "bindings/ops/host_call.h"
#include "bindings/ops/loss_arguments.h"
#include "bindings/ops/optimizer_argument.h"
#include "bindings/ops/register.h"
#include "fastnce/error.h"

namespace fastnce::bindings {

namespace {

// Row gradients on their way to Python: n rows, or as many as there are entries.
struct RowArrays {
  RowArrays(const LossCall& call, const LossPlan& plan)
      : used(plan.row_ids().size()),
        rows(call.pads_rows ? call.entries() : static_cast<std::int64_t>(used)),
        ids(rows) {
    pad_ids(plan.row_ids(), {ids.mutable_data(), static_cast<std::size_t>(rows)});
  }

  // A result of `rows` rows whose padding is zero.
  py::array values(DType dtype, std::vector<py::ssize_t> shape) const {
    py::array array = new_array(dtype, std::move(shape));
    auto* const bytes = static_cast<std::byte*>(array.mutable_data());
    pad_gradients(used, rows, {bytes, static_cast<std::size_t>(array.nbytes())});
    return array;
  }

  std::size_t used;
  py::ssize_t rows;
  py::array_t<std::int64_t> ids;
};

template <class T>
py::object run(Array inputs, const LossArguments& args) {
  HostCall<T> host(std::move(inputs), args);
  LossCall& call = host.call;
  const LossRequest& request = call.request;
  LossPlan planned;
  {
    // Safe, here and below: inputs are borrowed or copied, outputs are ours, and no Python object is touched.
    const WithoutGil released;
    plan(request, planned);
  }

  LossOutputs outputs;
  call.set_grad_dtypes(outputs);
  std::optional<RowUpdate> update;
  OptimizerArgument* const optimizer = is_given(args.optimizer) ? args.optimizer.cast<OptimizerArgument*>() : nullptr;
  if (optimizer != nullptr) outputs.update = &update.emplace(optimizer->of(request));
  const auto output = [](py::object& result, py::array array) {
    void* const data = array.mutable_data();
    result = std::move(array);
    return data;
  };
  py::object loss, log_sum_exp = py::none(), grad_inputs = py::none(), row_ids = py::none(), grad_weights = py::none(),
                   grad_biases = py::none();
  outputs.loss = output(loss, filled(request.dtype, call.batch_shape()));
  if (request.wanted.log_sum_exp) {
    outputs.log_sum_exp = static_cast<double*>(output(log_sum_exp, filled(DType::kFloat64, call.batch_shape())));
  }
  if (request.wanted.grad_inputs) {
    outputs.grad_inputs = output(grad_inputs, filled(*outputs.grad_inputs_dtype, call.inputs_shape()));
  }
  if (update) {
    const std::span<const std::int64_t> ids = planned.row_ids();
    row_ids = py::array_t<std::int64_t>(std::ssize(ids), ids.data());
  } else if (request.wanted.rows()) {
    const RowArrays rows(call, planned);
    row_ids = rows.ids;
    if (request.wanted.grad_weights) {
      outputs.grad_weights = output(grad_weights, rows.values(*outputs.grad_weights_dtype, {rows.rows, request.dim}));
    }
    if (request.wanted.grad_biases) {
      outputs.grad_biases = output(grad_biases, rows.values(*outputs.grad_biases_dtype, {rows.rows}));
    }
  }
  {
    const WithoutGil released;
    fastnce::run(planned, outputs);
  }
  if (update) optimizer->count_step();
  return py::make_tuple(loss, grad_inputs, row_ids, grad_weights, grad_biases, log_sum_exp, py::none());
}

py::object compute_loss(const py::dict& fields) {
  const LossArguments args(fields);
  if (is_given(args.device)) return cuda_loss(args);
  Array inputs = borrow_host_inputs(args.inputs);
  return floating_type(inputs) == DType::kFloat64 ? run<double>(std::move(inputs), args)
                                                  : run<float>(std::move(inputs), args);
}

// Throws what the call would throw, without computing.
void check_loss(const py::dict& fields) {
  const LossArguments args(fields);
  Array inputs = borrow_host_inputs(args.inputs);
  if (floating_type(inputs) == DType::kFloat64) {
    validate(HostCall<double>(std::move(inputs), args).call.request);
  } else {
    validate(HostCall<float>(std::move(inputs), args).call.request);
  }
}

}  // namespace

void register_loss(py::module_& module) {
  module.attr("loss_fields") = loss_fields();
  module.def("compute_loss", &compute_loss, py::arg("fields"));
  module.def("check_loss", &check_loss, py::arg("fields"));
}

}  // namespace fastnce::bindings
