#include "bindings/sampled_loss_arguments.h"

#include <optional>

#include "fastnce/config.h"
#include "fastnce/error.h"

namespace fastnce::bindings {

namespace {

Partition partition_from(py::handle strategy) {
  if (!py::isinstance<py::str>(strategy)) {
    throw InvalidType(concat("partition_strategy", is_a(strategy), ": expected a string"));
  }
  const std::string name = strategy.cast<std::string>();
  if (name == "div") return Partition::kDiv;
  if (name == "mod") return Partition::kMod;
  throw InvalidValue(concat("partition_strategy = '", name, "': expected 'div' or 'mod'"));
}

void require_float32(py::handle grad_dtype, DType computed) {
  if (!py::isinstance<py::str>(grad_dtype)) {
    throw InvalidType(concat("grad_dtype", is_a(grad_dtype), ": expected None or 'float32'"));
  }
  const auto name = grad_dtype.cast<std::string>();
  if (name != "float32" || computed != DType::kFloat32) {
    throw InvalidValue(concat("grad_dtype = '", name, "': expected None",
                              computed == DType::kFloat32 ? " or 'float32'" : " for float64 arrays"));
  }
}

// Sizes and options, and of the inputs what the core needs to know.
SampledLossParams params_from(const Array& inputs, const LossArguments& args) {
  SampledLossParams params;
  params.inputs_dtype = floating_type(inputs);
  params.dtype = *params.inputs_dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  params.precision = args.precision.is_none() ? default_precision() : precision_argument(args.precision);
  params.num_sampled = integer(args.num_sampled, "num_sampled");
  params.num_classes = integer(args.num_classes, "num_classes");
  params.num_true = integer(args.num_true, "num_true");
  params.remove_accidental_hits = boolean(args.remove_accidental_hits, "remove_accidental_hits");
  if (params.num_true < 0) throw InvalidValue(concat("num_true = ", params.num_true, ": expected at least 0"));
  params.weights.partition = params.biases.partition = partition_from(args.partition_strategy);
  if (inputs.rank() > 2) {
    const std::int64_t examples = count({inputs.shape.data(), inputs.shape.size() - 1});
    throw InvalidValue(concat(inputs.name, " has shape ", inputs.shape_text(), " of rank ", inputs.rank(),
                              ": expected [B, D] of rank 2; reshape inputs to [", examples, ", ", inputs.shape.back(),
                              "] and labels to [", examples, "] or [", examples, ", num_true]"));
  }
  require_matrix(inputs, "[B, D]");
  params.batch = inputs.shape[0];
  params.dim = inputs.shape[1];
  params.inputs = inputs.data;
  params.inputs_stride = inputs.strides[0];
  return params;
}

}  // namespace

TableArgument::TableArgument(py::handle object, const char* name, const Array& inputs, std::int64_t columns,
                             const Place& place)
    : dtype_(floating_type(inputs)) {
  if (PyList_Check(object.ptr()) || PyTuple_Check(object.ptr())) {
    for (const py::handle shard : object) {
      add(shard, names_.emplace_back(concat(name, "[", shards_.size(), "]")).c_str(), inputs, columns, place);
    }
  } else {
    add(object, name, inputs, columns, place);
  }
}

void TableArgument::add(py::handle object, const char* name, const Array& inputs, std::int64_t columns,
                        const Place& place) {
  const Array& shard = arrays_.emplace_back(borrow_differentiable(object, name, place));
  const DType dtype = floating_type(shard);
  const bool wide_inputs = floating_type(inputs) == DType::kFloat64;
  if ((dtype == DType::kFloat64) != wide_inputs) {
    throw InvalidType(concat(name, " has dtype ", shard.type_name(), " but inputs has dtype ", inputs.type_name(),
                             ": expected ", wide_inputs ? "the same" : "float32, float16 or bfloat16",
                             "; convert inputs or ", name, ", as in array.astype('",
                             wide_inputs ? shard.type_name() : "float32", "')"));
  }
  if (!shards_.empty() && dtype != dtype_) {
    throw InvalidType(concat(name, " has dtype ", shard.type_name(), " but ", arrays_.front().name, " has dtype ",
                             arrays_.front().type_name(), ": expected the same"));
  }
  dtype_ = dtype;
  if (columns < 0) {
    require_rank(shard, 1, "[V]");
  } else {
    require_matrix(shard, "[V, D]");
    if (shard.shape[1] != columns) {
      throw InvalidValue(concat(name, " has shape ", shard.shape_text(), ": expected [V, D] with D = ", columns,
                                ", the width of inputs"));
    }
  }
  shards_.push_back({shard.data, shard.shape[0], shard.strides[0]});
}

LossCall::LossCall(const Array& inputs, const LossArguments& arguments, const Place& place)
    : params(params_from(inputs, arguments)),
      arguments_(arguments),
      weights_(arguments.weights, "weights", inputs, params.dim, place),
      biases_(arguments.biases, "biases", inputs, -1, place) {
  params.weights = weights_.table(params.weights.partition);
  params.biases = biases_.table(params.biases.partition);
  params.weights_dtype = weights_.dtype();
  params.biases_dtype = biases_.dtype();
  if (!arguments.grad_dtype.is_none()) require_float32(arguments.grad_dtype, params.dtype);
}

void LossCall::set_grad_dtypes() {
  const auto grad_type = [&](std::optional<DType> own) { return arguments_.grad_dtype.is_none() ? own : params.dtype; };
  params.grad_inputs_dtype = grad_type(params.inputs_dtype);
  params.grad_weights_dtype = grad_type(params.weights_dtype);
  params.grad_biases_dtype = grad_type(params.biases_dtype);
}

LogUniformParams LossCall::sampling() const {
  return {.range_max = params.num_classes,
          .num_sampled = params.num_sampled,
          .unique = true,
          .seed = arguments_.seed,
          .seed2 = arguments_.seed2,
          .call = arguments_.call};
}

std::array<py::object, 3> three_sampled_values(py::handle given) {
  const py::ssize_t length = PySequence_Check(given.ptr()) ? PySequence_Size(given.ptr()) : -1;
  if (PyErr_Occurred()) {
    const py::error_already_set error;
    if (!is_about_the_argument(error)) throw error;
  }
  if (length != 3) {
    const std::string got = PyTuple_Check(given.ptr()) || PyList_Check(given.ptr())
                                ? concat(" has ", PySequence_Size(given.ptr()), " values")
                                : is_a(given);
    throw InvalidValue(concat("sampled_values", got,
                              ": expected three values, (sampled_candidates, "
                              "true_expected_count, sampled_expected_count)"));
  }
  const auto values = py::reinterpret_borrow<py::sequence>(given);
  return {values[0], values[1], values[2]};
}

Array borrow_candidates(py::handle object, std::int64_t num_sampled, const Place& place) {
  Array ids = borrow_or_convert(object, "sampled_candidates", place);
  require_rank(ids, 1, "[S]");
  if (ids.shape[0] != num_sampled) {
    throw InvalidValue(
        concat("sampled_candidates has shape ", ids.shape_text(), ": expected [num_sampled] = [", num_sampled, "]"));
  }
  return ids;
}

Array borrow_true_count(py::handle object, const SampledLossParams& params, const Place& place) {
  Array count = borrow_or_convert(object, "true_expected_count", place);
  // [B] counts are one per example. Broadcast against [B, T] they would run along T, or against [B, 1] become [B, B]:
  // a wrong loss without an error.
  if (count.rank() == 1 && count.shape[0] != 1) {
    if (params.num_true != 1) {
      throw InvalidValue(concat(count.name, " has shape ", count.shape_text(), ": expected [B, num_true] = [",
                                params.batch, ", ", params.num_true, "] or [B, 1]"));
    }
    count.shape.push_back(1);
    count.strides.push_back(1);
  }
  return count;
}

}  // namespace fastnce::bindings
