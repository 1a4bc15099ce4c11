// Optimizers: their objects, and updates from gradients of rows that were computed before.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <utility>

#include "bindings/arrays/without_gil.h"
#include "bindings/ops/host_call.h"
#include "bindings/ops/loss_arguments.h"
#include "bindings/ops/optimizer_argument.h"
#include "bindings/ops/register.h"
#include "fastnce/error.h"

namespace fastnce::bindings {

namespace {

// In place of inputs: no examples, of the width and the dtype of the weights.
Array no_inputs(py::handle weights) {
  const bool shards = PyList_Check(weights.ptr()) || PyTuple_Check(weights.ptr());
  const auto first = shards && py::len(weights) > 0
                         ? py::reinterpret_steal<py::object>(PySequence_GetItem(weights.ptr(), 0))
                         : py::reinterpret_borrow<py::object>(weights);
  Array inputs = borrow_differentiable(first, "weights", kHost);
  require_matrix(inputs, "[V, D]");
  inputs.shape[0] = 0;
  return inputs;
}

// A number for each row of an update.
void require_rows(const Array& array, std::int64_t rows, std::int64_t columns) {
  const std::vector<std::int64_t> expected = columns < 0 ? std::vector{rows} : std::vector{rows, columns};
  if (array.shape != expected) {
    throw InvalidValue(concat(array.name, " has shape ", array.shape_text(), ": expected ", shape_text(expected),
                              ", a row for each of ids"));
  }
}

void update_rows_of(const OptimizerArgument& optimizer, const py::dict& fields, py::handle ids, py::handle rows,
                    py::handle bias_rows) {
  const LossArguments args(fields);
  LossCall call(no_inputs(args.weights), args, kHost);
  const Array given_ids = borrow_or_convert(ids, "ids", kHost);
  require_rank(given_ids, 1, "[n]");
  const std::vector<std::int64_t> copied = copy_ids(given_ids);
  GradientRows gradients{.count = std::ssize(copied), .ids = copied.data()};
  std::optional<Array> weights, biases;
  if (!rows.is_none()) {
    weights.emplace(borrow_or_convert(rows, "rows", kHost));
    require_rows(*weights, gradients.count, call.request.dim);
    make_rows_contiguous(*weights);
    gradients.weights = weights->data;
    gradients.weights_stride = weights->strides[0];
    gradients.weights_dtype = floating_type(*weights);
  }
  if (!bias_rows.is_none()) {
    biases.emplace(borrow_or_convert(bias_rows, "bias_rows", kHost));
    require_rows(*biases, gradients.count, -1);
    if (gradients.count > 1 && biases->strides[0] != 1) {
      throw InvalidValue("bias_rows is not contiguous: expected an array in row-major order");
    }
    gradients.biases = biases->data;
    gradients.biases_dtype = floating_type(*biases);
  }
  const RowUpdate update = optimizer.of(call.request);
  const WithoutGil released;
  update_rows(update, call.request, gradients);
}

}  // namespace

void register_optimizer(py::module_& module) {
  module.def("optimizer_states", [](const std::string& kind) {
    const OptimizerStates states = states_of(optimizer_named(kind));
    return std::pair(states.count, states.rowwise);
  });
  py::class_<OptimizerArgument>(module, "Optimizer")
      .def(py::init<const std::string&, py::handle, py::handle>(), py::arg("kind"), py::arg("weights_states"),
           py::arg("biases_states"))
      .def(
          "set",
          [](OptimizerArgument& self, double lr, std::int64_t step, double momentum, double beta1, double beta2,
             double eps, double eps_inside_sqrt, double eps_corrected, double weight_decay,
             std::optional<std::uint64_t> rounding_seed) {
            const Optimizer given{.kind = self.numbers.kind,
                                  .learning_rate = lr,
                                  .momentum = momentum,
                                  .beta1 = beta1,
                                  .beta2 = beta2,
                                  .eps = eps,
                                  .eps_inside_sqrt = eps_inside_sqrt != 0.0,
                                  .eps_corrected = eps_corrected != 0.0,
                                  .weight_decay = weight_decay,
                                  .step = step,
                                  .rounding_seed = rounding_seed};
            validate(given);
            self.numbers = given;
          },
          py::kw_only(), py::arg("lr"), py::arg("step"), py::arg("momentum") = 0.0, py::arg("beta1") = 0.0,
          py::arg("beta2") = 0.0, py::arg("eps") = 0.0, py::arg("eps_inside_sqrt") = 0.0,
          py::arg("eps_corrected") = 0.0, py::arg("weight_decay") = 0.0, py::arg("rounding_seed") = py::none())
      .def("update_rows", &update_rows_of, py::arg("fields"), py::arg("ids"), py::arg("rows"), py::arg("bias_rows"));
}

}  // namespace fastnce::bindings
