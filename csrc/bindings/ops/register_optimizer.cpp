// Optimizers: their objects, and updates from gradients of rows that were computed before.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings/arrays/without_gil.h"
#include "bindings/ops/cuda_call.h"
#include "bindings/ops/host_call.h"
#include "bindings/ops/loss_arguments.h"
#include "bindings/ops/optimizer_argument.h"
#include "bindings/ops/register.h"
#include "fastnce/cuda.h"
#include "fastnce/error.h"

namespace fastnce::bindings {

namespace {

// The first shard of a table, or the table itself.
py::object first_shard(py::handle table, const char* name) {
  if (!PyList_Check(table.ptr()) && !PyTuple_Check(table.ptr())) return py::reinterpret_borrow<py::object>(table);
  if (py::len(table) == 0) throw InvalidValue(concat(name, " has no shards: expected at least one"));
  return py::reinterpret_steal<py::object>(PySequence_GetItem(table.ptr(), 0));
}

// In place of inputs: no examples, of the width and the dtype of the weights.
Array no_inputs(py::handle weights, const Place& place) {
  Array inputs = borrow_differentiable(first_shard(weights, "weights"), "weights", place);
  require_matrix(inputs, "[V, D]");
  inputs.shape[0] = 0;
  return inputs;
}

// (rows, width, whether it is float64) of a table [V, D] or [V].
py::tuple shape_of(py::handle table, const std::string& name, bool is_matrix, py::handle device) {
  const Place place = device.is_none() ? kHost : place_on(stream_of(device), name.c_str());
  const char* const expected = is_matrix ? "[V, D]" : "[V]";
  const Array first = borrow_differentiable(first_shard(table, name.c_str()), name.c_str(), place);
  require_rank(first, is_matrix ? 2 : 1, expected);
  const DType dtype = floating_type(first);
  std::int64_t rows = first.shape[0];
  if (PyList_Check(table.ptr()) || PyTuple_Check(table.ptr())) {
    rows = 0;
    int at = 0;
    for (const py::handle shard : py::reinterpret_borrow<py::sequence>(table)) {
      const std::string own = concat(name, "[", at++, "]");
      const Array array = borrow_differentiable(shard, own.c_str(), place);
      require_rank(array, is_matrix ? 2 : 1, expected);
      rows += array.shape[0];
    }
  }
  return py::make_tuple(rows, is_matrix ? first.shape[1] : 1, dtype == DType::kFloat64);
}

// Gradients of rows, as Python passes them.
struct GradientArrays {
  std::optional<Array> weights, biases;
  GradientRows rows;

  GradientArrays(const LossCall& call, std::int64_t count, py::handle given, py::handle bias_rows, const Place& place) {
    rows.count = count;
    if (!given.is_none()) {
      weights.emplace(borrow_or_convert(given, "rows", place));
      require_rows(*weights, {count, call.request.dim});
      place.device.type == dl::kCpu ? make_rows_contiguous(*weights) : require_matrix(*weights, "[n, D]");
      rows.weights = weights->data;
      rows.weights_stride = weights->strides[0];
      rows.weights_dtype = gradient_type(*weights, call);
    }
    if (bias_rows.is_none()) return;
    biases.emplace(borrow_or_convert(bias_rows, "bias_rows", place));
    require_rows(*biases, {count});
    const bool on_host = place.device.type == dl::kCpu, narrow = biases->type.bits == 16;
    if (on_host && !narrow) {
      rows.biases = call.request.dtype == DType::kFloat64 ? converted(wide_) : converted(single_);
      return;
    }
    if (count > 1 && biases->strides[0] != 1) {
      throw InvalidValue("bias_rows is not contiguous: expected an array in row-major order");
    }
    rows.biases_dtype = gradient_type(*biases, call);
    if (!on_host && narrow) {
      throw InvalidType(concat("bias_rows has dtype ", biases->type_name(), ": expected float32 on a CUDA device"));
    }
    rows.biases = biases->data;
  }

 private:
  template <class T>
  const void* converted(std::optional<Values<T>>& values) {
    values.emplace(*biases, biases->shape, "[n]");
    return values->data();
  }

  static DType gradient_type(const Array& array, const LossCall& call) {
    const DType dtype = floating_type(array);
    const bool wide = call.request.dtype == DType::kFloat64;
    if ((dtype == DType::kFloat64) == wide) return dtype;
    throw InvalidType(concat(array.name, " has dtype ", array.type_name(), ": expected ",
                             wide ? "float64" : "float32, float16 or bfloat16", ", as the update is computed in ",
                             wide ? "float64" : "float32"));
  }

  static void require_rows(const Array& array, const std::vector<std::int64_t>& expected) {
    if (array.shape == expected) return;
    throw InvalidValue(concat(array.name, " has shape ", array.shape_text(), ": expected ", shape_text(expected),
                              ", a row for each of ids"));
  }

  std::optional<Values<float>> single_;
  std::optional<Values<double>> wide_;
};

void update_on_host(OptimizerArgument& optimizer, const LossArguments& args, py::handle ids, py::handle rows,
                    py::handle bias_rows) {
  const LossCall call(no_inputs(args.weights, kHost), args, kHost);
  const Array given_ids = borrow_or_convert(ids, "ids", kHost);
  require_rank(given_ids, 1, "[n]");
  const std::vector<std::int64_t> copied = copy_ids(given_ids);
  GradientArrays gradients(call, std::ssize(copied), rows, bias_rows, kHost);
  gradients.rows.ids = copied.data();
  const RowUpdate update = optimizer.of(call.request);
  {
    const WithoutGil released;
    update_rows(update, call.request, gradients.rows);
  }
  optimizer.count_step();
}

void update_on_device(OptimizerArgument& optimizer, const LossArguments& args, py::handle ids, py::handle rows,
                      py::handle bias_rows) {
  const cuda::Stream stream = stream_of(args.device);
  const Place place = place_on(stream, "weights");
  const LossCall call(no_inputs(args.weights, place), args, place);
  Array given_ids = borrow_or_convert(ids, "ids", place);
  require_rank(given_ids, 1, "[n]");
  GradientArrays gradients(call, given_ids.shape[0], rows, bias_rows, place);
  CudaCall gpu(args.device, stream);
  gradients.rows.ids = gpu.ids(std::move(given_ids), 1);
  const RowUpdate update = optimizer.of(call.request);
  const cuda::Workspace workspace =
      gpu.workspace(cuda::update_rows_workspace_bytes(call.request, gradients.rows, stream.device));
  {
    const WithoutGil released;  // safe: whatever is borrowed or made is held here
    cuda::update_rows(update, call.request, gradients.rows, workspace, stream);
  }
  optimizer.count_step();
  gpu.finish();
}

// Throws what every step would throw for these tables.
void check_tables(const OptimizerArgument& optimizer, const py::dict& fields) {
  const LossArguments args(fields);
  const Place place = is_given(args.device) ? place_on(stream_of(args.device), "weights") : kHost;
  LossCall call(no_inputs(args.weights, place), args, place);
  call.request.targets.per_example = 0;
  validate(call.request);
  static_cast<void>(optimizer.of(call.request));
}

void update_rows_of(OptimizerArgument& optimizer, const py::dict& fields, py::handle ids, py::handle rows,
                    py::handle bias_rows) {
  const LossArguments args(fields);
  (is_given(args.device) ? update_on_device : update_on_host)(optimizer, args, ids, rows, bias_rows);
}

}  // namespace

void register_optimizer(py::module_& module) {
  module.def(
      "optimizer_states",
      [](const std::string& kind) {
        const OptimizerStates states = states_of(optimizer_named(kind));
        return std::pair(states.count, states.rowwise);
      },
      py::arg("kind"));
  module.def("table_shape", &shape_of, py::arg("table"), py::arg("name"), py::arg("is_matrix"), py::arg("device"));
  py::class_<OptimizerArgument>(module, "Optimizer")
      .def(py::init<const std::string&, py::handle, py::handle, py::handle, std::vector<py::array_t<std::int64_t>>>(),
           py::arg("kind"), py::arg("weights_states"), py::arg("biases_states"), py::arg("device") = py::none(),
           py::arg("steps").noconvert() = py::tuple())
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
      .def("check_tables", &check_tables, py::arg("fields"))
      .def("update_rows", &update_rows_of, py::arg("fields"), py::arg("ids"), py::arg("rows"), py::arg("bias_rows"));
}

}  // namespace fastnce::bindings
