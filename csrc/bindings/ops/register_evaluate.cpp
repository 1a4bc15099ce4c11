// What is computed over all classes: the best classes, ranks of labels, exact losses.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "bindings/ops/cuda.h"
#include "bindings/ops/host_call.h"
#include "bindings/ops/loss_arguments.h"
#include "bindings/ops/python_progress.h"
#include "bindings/ops/register.h"
#include "fastnce/error.h"
#include "fastnce/evaluate.h"
#include "fastnce/extent.h"

namespace fastnce::bindings {

namespace {

py::tuple top_k_of(Array inputs, const LossArguments& args, py::handle given_k, PythonProgress& progress) {
  const std::int64_t k = integer(given_k, "k");
  const auto run = [&]<class T>(T) {
    HostCall<T> host(std::move(inputs), args);
    const LossRequest& request = host.call.request;
    if (k < 0) throw InvalidValue(concat("k = ", k, ": expected at least 0"));
    std::vector<std::int64_t> shape = host.call.batch_shape();
    shape.push_back(k);
    py::array scores = filled(request.dtype, shape);
    py::array_t<std::int64_t> ids(shape);
    void* const to_scores = scores.mutable_data();
    std::int64_t* const to_ids = ids.mutable_data();
    progress.follow([&](const Progress& report) { top_k(request, k, request.exclude, to_scores, to_ids, report); });
    return py::make_tuple(scores, ids);
  };
  return floating_type(inputs) == DType::kFloat64 ? run(double{}) : run(float{});
}

py::array ranks_of(Array inputs, const LossArguments& args, PythonProgress& progress) {
  const auto run = [&]<class T>(T) -> py::array {
    HostCall<T> host(std::move(inputs), args);
    const LossRequest& request = host.call.request;
    py::array_t<double> ranks(host.labels_shape);
    double* const to = ranks.mutable_data();
    progress.follow(
        [&](const Progress& report) { rank_of_labels(request, request.targets, request.exclude, to, report); });
    return ranks;
  };
  return floating_type(inputs) == DType::kFloat64 ? run(double{}) : run(float{});
}

// float32 or float64, in the shape of the labels.
py::array scores_of_labels(Array inputs, const LossArguments& args) {
  const auto run = [&]<class T>(T) {
    HostCall<T> host(std::move(inputs), args);
    const LossRequest& request = host.call.request;
    py::array scores = filled(request.dtype, host.labels_shape);
    void* const to = scores.mutable_data();
    {
      const WithoutGil released;
      score_labels(request, request.targets, to);
    }
    return scores;
  };
  return floating_type(inputs) == DType::kFloat64 ? run(double{}) : run(float{});
}

py::array ranks_of_scores(Array inputs, const LossArguments& args, py::handle scores, py::handle offsets) {
  const auto run = [&]<class T>(T) -> py::array {
    HostCall<T> host(std::move(inputs), args);
    const LossRequest& request = host.call.request;
    const Array given = borrow_or_convert(scores, "scores", kHost);
    require_rank(given, 1, "[n]");
    const Values<T> values(given, given.shape, "[n]");
    const std::vector<std::int64_t> of_lists = copy_ids(borrow_offsets(offsets, "offsets", host.call, kHost));
    if (of_lists.back() != given.shape[0]) {
      throw InvalidValue(concat("offsets[", request.batch, "] = ", of_lists.back(), ": expected the number of scores, ",
                                given.shape[0]));
    }
    py::array_t<double> ranks(given.shape);
    double* const to = ranks.mutable_data();
    {
      const WithoutGil released;
      rank_of_scores(request, {of_lists.data(), values.data()}, request.exclude, to);
    }
    return ranks;
  };
  return floating_type(inputs) == DType::kFloat64 ? run(double{}) : run(float{});
}

// An array of the caller's for a gradient.
py::array given_output(py::handle object, const char* name, DType dtype, std::vector<py::ssize_t> shape) {
  if (!py::isinstance<py::array>(object)) throw InvalidType(concat(name, is_a(object), ": expected a NumPy array"));
  auto array = py::reinterpret_borrow<py::array>(object);
  const Array borrowed = borrow(array, name, kHost);
  const std::vector<std::int64_t> expected(shape.begin(), shape.end());
  if (borrowed.shape != expected) {
    throw InvalidValue(concat(name, " has shape ", borrowed.shape_text(), ": expected ", shape_text(expected)));
  }
  if (floating_type(borrowed) != dtype) {
    const char* const names[] = {"float32", "float64", "float16", "bfloat16"};
    throw InvalidType(concat(name, " has dtype ", borrowed.type_name(), ": expected ", names[static_cast<int>(dtype)],
                             ", that of the gradient"));
  }
  if (!is_compact(borrowed.shape, borrowed.strides)) {
    throw InvalidValue(concat(name, " has strides ", shape_text(borrowed.strides),
                              " (in elements): expected contiguous memory in row-major order"));
  }
  if (!array.writeable()) throw InvalidValue(concat(name, " is read-only: expected an array that can be written to"));
  return array;
}

// Gradients are written while tables and inputs are still read.
void require_apart(const Extent& output, const char* name, const LossRequest& r) {
  const auto refuse = [name](const char* other) {
    throw InvalidValue(concat(name, " shares memory with ", other, ": expected an array of its own"));
  };
  const auto require = [&](const Table& table, const char* other, std::int64_t columns, std::optional<DType> dtype) {
    for (const Shard& shard : table.shards) {
      if (output.overlaps(extent_of(shard, columns, dtype.value_or(r.dtype)))) refuse(other);
    }
  };
  require(r.weights, "weights", r.dim, r.weights_dtype);
  require(r.biases, "biases", 1, r.biases_dtype);
  const Extent inputs(r.inputs, r.batch, r.inputs_stride, r.dim, r.inputs_dtype.value_or(r.dtype));
  if (output.overlaps(inputs)) refuse("inputs");
}

py::tuple full_loss_of(Array inputs, const LossArguments& args, py::handle out, PythonProgress& progress) {
  const auto run = [&]<class T>(T) {
    HostCall<T> host(std::move(inputs), args);
    LossCall& call = host.call;
    const LossRequest& request = call.request;
    LossOutputs outputs;
    call.set_grad_dtypes(outputs);
    py::object given[2] = {py::none(), py::none()};
    if (!out.is_none()) {
      if (!PyTuple_Check(out.ptr()) || PyTuple_Size(out.ptr()) != 2) {
        throw InvalidType(
            concat("out", is_a(out), ": expected a tuple of two arrays, for the gradients of weights and biases"));
      }
      const auto two = py::reinterpret_borrow<py::tuple>(out);
      given[0] = two[0];
      given[1] = two[1];
    }
    const auto table = [&](int i, const char* name, DType dtype, std::vector<py::ssize_t> shape) {
      return given[i].is_none() ? new_array(dtype, std::move(shape)) : given_output(given[i], name, dtype, shape);
    };
    const auto output = [](py::object& result, py::array array) {
      void* const data = array.mutable_data();
      result = std::move(array);
      return data;
    };
    py::object loss, grad_inputs = py::none(), grad_weights = py::none(), grad_biases = py::none(),
                     log_sum_exp = py::none();
    outputs.loss = output(loss, filled(request.dtype, call.batch_shape()));
    if (request.wanted.log_sum_exp) {
      outputs.log_sum_exp = static_cast<double*>(output(log_sum_exp, filled(DType::kFloat64, call.batch_shape())));
    }
    if (request.wanted.grad_inputs) {
      outputs.grad_inputs = output(grad_inputs, filled(*outputs.grad_inputs_dtype, call.inputs_shape()));
    }
    if (request.wanted.grad_weights) {
      outputs.grad_weights =
          output(grad_weights, table(0, "out[0]", *outputs.grad_weights_dtype, {request.num_classes, request.dim}));
    }
    if (request.wanted.grad_biases) {
      outputs.grad_biases = output(grad_biases, table(1, "out[1]", *outputs.grad_biases_dtype, {request.num_classes}));
    }
    const Extent grad_weights_memory(outputs.grad_weights, request.num_classes, request.dim,
                                     outputs.grad_weights != nullptr ? request.dim : 0, *outputs.grad_weights_dtype);
    const Extent grad_biases_memory(outputs.grad_biases, request.num_classes, 1, outputs.grad_biases != nullptr ? 1 : 0,
                                    *outputs.grad_biases_dtype);
    require_apart(grad_weights_memory, "out[0]", request);
    require_apart(grad_biases_memory, "out[1]", request);
    if (grad_weights_memory.overlaps(grad_biases_memory)) {
      throw InvalidValue("out[1] shares memory with out[0]: expected an array of its own");
    }
    progress.follow([&](const Progress& report) { full_loss(request, outputs, report); });
    return py::make_tuple(loss, grad_inputs, grad_weights, grad_biases, log_sum_exp);
  };
  return floating_type(inputs) == DType::kFloat64 ? run(double{}) : run(float{});
}

}  // namespace

void register_evaluate(py::module_& module) {
  // Fields are those of compute_loss, as far as they have a meaning here.
  module.def(
      "top_k",
      [](const py::dict& fields, py::handle k, py::handle progress) {
        const LossArguments args(fields);
        PythonProgress follower(progress);
        if (is_given(args.device)) return cuda_top_k(args, integer(k, "k"), follower);
        return top_k_of(borrow_host_inputs(args.inputs), args, k, follower);
      },
      py::arg("fields"), py::arg("k"), py::arg("progress"));
  module.def(
      "rank_of_labels",
      [](const py::dict& fields, py::handle progress) -> py::object {
        const LossArguments args(fields);
        PythonProgress follower(progress);
        if (is_given(args.device)) return cuda_rank_of_labels(args, follower);
        return ranks_of(borrow_host_inputs(args.inputs), args, follower);
      },
      py::arg("fields"), py::arg("progress"));
  // The two halves of rank_of_labels, for classes that are spread over several calls.
  module.def(
      "score_labels",
      [](const py::dict& fields) -> py::object {
        const LossArguments args(fields);
        if (is_given(args.device)) return cuda_score_labels(args);
        return scores_of_labels(borrow_host_inputs(args.inputs), args);
      },
      py::arg("fields"));
  module.def(
      "rank_of_scores",
      [](const py::dict& fields, py::handle scores, py::handle offsets) -> py::object {
        const LossArguments args(fields);
        if (is_given(args.device)) return cuda_rank_of_scores(args, scores, offsets);
        return ranks_of_scores(borrow_host_inputs(args.inputs), args, scores, offsets);
      },
      py::arg("fields"), py::arg("scores"), py::arg("offsets"));
  module.def(
      "full_loss",
      [](const py::dict& fields, py::handle out, py::handle progress) {
        const LossArguments args(fields);
        PythonProgress follower(progress);
        if (is_given(args.device)) return cuda_full_loss(args, out, follower);
        return full_loss_of(borrow_host_inputs(args.inputs), args, out, follower);
      },
      py::arg("fields"), py::arg("out"), py::arg("progress"));
}

}  // namespace fastnce::bindings
