// The sampled losses: from Python's arguments to one SampledLossParams and back.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "bindings/array.h"
#include "bindings/register.h"
#include "bindings/without_gil.h"
#include "fastnce/config.h"
#include "fastnce/error.h"
#include "fastnce/sampled_loss.h"
#include "fastnce/sampler.h"

namespace fastnce::bindings {

namespace {

// A class table as passed: one array, or a list or tuple of shards. Owns what a Table points to.
class TableArgument {
 public:
  // `columns` < 0: a [V] table (biases).
  TableArgument(py::handle object, const char* name, const Array& inputs, std::int64_t columns)
      : dtype_(floating_type(inputs)) {
    if (PyList_Check(object.ptr()) || PyTuple_Check(object.ptr())) {
      for (const py::handle shard : object) {
        add(shard, names_.emplace_back(concat(name, "[", shards_.size(), "]")).c_str(), inputs, columns);
      }
    } else {
      add(object, name, inputs, columns);
    }
  }
  Table table(Partition partition) const { return {shards_, partition}; }
  DType dtype() const { return dtype_; }

 private:
  void add(py::handle object, const char* name, const Array& inputs, std::int64_t columns) {
    const Array& shard = arrays_.emplace_back(borrow(object, name));
    const DType dtype = floating_type(shard);
    const bool wide_inputs = floating_type(inputs) == DType::kFloat64;
    if ((dtype == DType::kFloat64) != wide_inputs) {
      throw InvalidType(concat(name, " has dtype ", shard.type_name(), " but inputs has dtype ", inputs.type_name(),
                               ": expected ", wide_inputs ? "the same" : "float32, float16 or bfloat16"));
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

  std::deque<std::string> names_;  // of shards; arrays_ point to them
  std::deque<Array> arrays_;
  std::vector<Shard> shards_;
  DType dtype_;  // of all shards; of the inputs where there are none
};

Partition partition_from(py::handle strategy) {
  if (!py::isinstance<py::str>(strategy)) {
    throw InvalidType(concat("partition_strategy is a ", Py_TYPE(strategy.ptr())->tp_name, ": expected a string"));
  }
  const std::string name = strategy.cast<std::string>();
  if (name == "div") return Partition::kDiv;
  if (name == "mod") return Partition::kMod;
  throw InvalidValue(concat("partition_strategy = '", name, "': expected 'div' or 'mod'"));
}

void require_float32(py::handle grad_dtype, DType computed) {
  if (!py::isinstance<py::str>(grad_dtype)) {
    throw InvalidType(concat("grad_dtype is a ", Py_TYPE(grad_dtype.ptr())->tp_name, ": expected None or 'float32'"));
  }
  const auto name = grad_dtype.cast<std::string>();
  if (name != "float32" || computed != DType::kFloat32) {
    throw InvalidValue(concat("grad_dtype = '", name, "': expected None",
                              computed == DType::kFloat32 ? " or 'float32'" : " for float64 arrays"));
  }
}

// The candidates of one call: given by the caller, or drawn here.
template <class T>
class Candidates {
 public:
  // From sampled_values = (ids [S], true counts [B, T], sampled counts [S]).
  Candidates(py::handle given, std::int64_t batch, std::int64_t num_true, std::int64_t num_sampled) {
    const py::ssize_t length = PySequence_Check(given.ptr()) ? PySequence_Size(given.ptr()) : -1;
    if (PyErr_Occurred()) {
      const py::error_already_set error;
      if (!is_about_the_argument(error)) throw error;
    }
    if (length != 3) {
      const std::string got = PyTuple_Check(given.ptr()) || PyList_Check(given.ptr())
                                  ? concat(PySequence_Size(given.ptr()), " values")
                                  : concat("a ", Py_TYPE(given.ptr())->tp_name);
      throw InvalidValue(concat("sampled_values is ", got,
                                ": expected three values, (sampled_candidates, "
                                "true_expected_count, sampled_expected_count)"));
    }
    const auto values = py::reinterpret_borrow<py::sequence>(given);
    const Array ids = borrow_or_convert(values[0], "sampled_candidates");
    require_rank(ids, 1, "[S]");
    if (ids.shape[0] != num_sampled) {
      throw InvalidValue(
          concat("sampled_candidates has shape ", ids.shape_text(), ": expected [num_sampled] = [", num_sampled, "]"));
    }
    ids_ = copy_ids(ids);
    Array true_count = borrow_or_convert(values[1], "true_expected_count");
    // [B] counts are one per example. Broadcast against [B, T] they would run along T, or against [B, 1] become
    // [B, B]: a wrong loss without an error.
    if (true_count.rank() == 1 && true_count.shape[0] != 1) {
      if (num_true != 1) {
        throw InvalidValue(concat(true_count.name, " has shape ", true_count.shape_text(),
                                  ": expected [B, num_true] = [", batch, ", ", num_true, "] or [B, 1]"));
      }
      true_count.shape.push_back(1);
      true_count.strides.push_back(1);
    }
    const std::int64_t true_shape[] = {batch, num_true};
    true_count_.emplace(std::move(true_count), true_shape, "a shape that broadcasts to [B, num_true]");
    const std::int64_t sampled_shape[] = {num_sampled};
    sampled_count_.emplace(borrow_or_convert(values[2], "sampled_expected_count"), sampled_shape,
                           "a shape that broadcasts to [num_sampled]");
  }

  // Log-uniform and unique, as TensorFlow's default. Needs no Python.
  Candidates(const LogUniformParams& params, std::span<const std::int64_t> labels) {
    ids_.resize(static_cast<std::size_t>(params.num_sampled));
    const std::int64_t tries = log_uniform_sample(params, ids_.data());
    const auto expected_count = [&](std::span<const std::int64_t> ids) {
      std::vector<float> counts(ids.size());
      log_uniform_expected_count(params, tries, ids, counts.data());
      return std::vector<T>(counts.begin(), counts.end());
    };
    drawn_true_count_ = expected_count(labels);
    drawn_sampled_count_ = expected_count(ids_);
  }

  std::span<const std::int64_t> ids() const { return ids_; }
  const T* true_count() const { return true_count_ ? true_count_->data() : drawn_true_count_.data(); }
  const T* sampled_count() const { return sampled_count_ ? sampled_count_->data() : drawn_sampled_count_.data(); }

 private:
  std::vector<std::int64_t> ids_;
  std::optional<Values<T>> true_count_;
  std::optional<Values<T>> sampled_count_;
  std::vector<T> drawn_true_count_;
  std::vector<T> drawn_sampled_count_;
};

struct Arguments {
  py::handle weights, biases, labels, num_sampled, num_classes, num_true, sampled_values, remove_accidental_hits,
      partition_strategy, precision, grad_loss, grad_dtype;
  bool with_grad;
  std::uint64_t seed, seed2;
};

template <class T>
py::object run(const Array& inputs, const Arguments& args) {
  SampledLossParams params;
  const DType inputs_dtype = floating_type(inputs);
  params.dtype = inputs_dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  params.precision = args.precision.is_none() ? default_precision() : precision_argument(args.precision);
  params.num_sampled = integer(args.num_sampled, "num_sampled");
  params.num_classes = integer(args.num_classes, "num_classes");
  params.num_true = integer(args.num_true, "num_true");
  params.remove_accidental_hits = boolean(args.remove_accidental_hits, "remove_accidental_hits");
  if (params.num_true < 0) throw InvalidValue(concat("num_true = ", params.num_true, ": expected at least 0"));
  const Partition partition = partition_from(args.partition_strategy);

  require_matrix(inputs, "[B, D]");
  params.batch = inputs.shape[0];
  params.dim = inputs.shape[1];
  params.inputs = inputs.data;
  params.inputs_stride = inputs.strides[0];
  const TableArgument weights(args.weights, "weights", inputs, params.dim);
  const TableArgument biases(args.biases, "biases", inputs, -1);
  params.weights = weights.table(partition);
  params.biases = biases.table(partition);
  params.inputs_dtype = inputs_dtype;
  params.weights_dtype = weights.dtype();
  params.biases_dtype = biases.dtype();
  const bool own_grad_types = args.grad_dtype.is_none();
  if (!own_grad_types) require_float32(args.grad_dtype, params.dtype);
  const auto grad_type = [&](DType own) { return own_grad_types ? own : params.dtype; };
  const Array label_array = borrow_or_convert(args.labels, "labels");
  require_classes(label_array, params.batch, params.num_true);
  const std::vector<std::int64_t> labels = copy_ids(label_array);
  params.labels = labels.data();

  std::optional<Values<T>> grad_loss;
  if (!args.grad_loss.is_none()) {
    const std::int64_t shape[] = {params.batch};
    grad_loss.emplace(borrow_or_convert(args.grad_loss, "grad_loss"), shape, "a shape that broadcasts to [B]");
    params.grad_loss = grad_loss->data();
  }
  std::optional<Candidates<T>> candidates;
  const LogUniformParams sampling{.range_max = params.num_classes,
                                  .num_sampled = params.num_sampled,
                                  .unique = true,
                                  .seed = args.seed,
                                  .seed2 = args.seed2,
                                  .call = 0};
  const auto use_candidates = [&] {
    params.sampled = candidates->ids().data();
    params.true_count = candidates->true_count();
    params.sampled_count = candidates->sampled_count();
  };
  if (args.sampled_values.is_none()) {
    // All but the candidates: labels must be in range before their counts are computed.
    if (params.num_sampled > 0) validate(params);
    validate(sampling);
  } else {
    candidates.emplace(args.sampled_values, params.batch, params.num_true, params.num_sampled);
    use_candidates();
    validate(params);
  }
  RowPlan plan;
  {
    // Safe, here and below: inputs are borrowed or copied, outputs are ours, and no Python object is touched.
    const WithoutGil released;
    if (!candidates) {
      candidates.emplace(sampling, labels);
      use_candidates();
    }
    if (args.with_grad) plan = plan_rows(labels, candidates->ids());
  }

  py::array_t<T> loss(params.batch);
  params.loss = loss.mutable_data();
  if (!args.with_grad) {
    const WithoutGil released;
    nce_loss(params);
    return loss;
  }
  const auto rows = static_cast<py::ssize_t>(plan.ids.size());
  params.grad_inputs_dtype = grad_type(inputs_dtype);
  params.grad_weights_dtype = grad_type(weights.dtype());
  params.grad_biases_dtype = grad_type(biases.dtype());
  py::array grad_inputs = new_array(*params.grad_inputs_dtype, {params.batch, params.dim});
  py::array_t<std::int64_t> row_ids(rows, plan.ids.data());
  py::array grad_weights = new_array(*params.grad_weights_dtype, {rows, params.dim});
  py::array grad_biases = new_array(*params.grad_biases_dtype, {rows});
  params.rows = &plan;
  params.grad_inputs = grad_inputs.mutable_data();
  params.grad_weights = grad_weights.mutable_data();
  params.grad_biases = grad_biases.mutable_data();
  {
    const WithoutGil released;
    nce_loss(params);
  }
  return py::make_tuple(loss, grad_inputs, row_ids, grad_weights, grad_biases);
}

py::object nce_loss_arguments(py::handle weights, py::handle biases, py::handle labels, py::handle inputs,
                              py::handle num_sampled, py::handle num_classes, py::handle num_true,
                              py::handle sampled_values, py::handle remove_accidental_hits,
                              py::handle partition_strategy, std::uint64_t seed, std::uint64_t seed2,
                              py::handle precision, bool with_grad, py::handle grad_loss, py::handle grad_dtype) {
  const Arguments args{.weights = weights,
                       .biases = biases,
                       .labels = labels,
                       .num_sampled = num_sampled,
                       .num_classes = num_classes,
                       .num_true = num_true,
                       .sampled_values = sampled_values,
                       .remove_accidental_hits = remove_accidental_hits,
                       .partition_strategy = partition_strategy,
                       .precision = precision,
                       .grad_loss = grad_loss,
                       .grad_dtype = grad_dtype,
                       .with_grad = with_grad,
                       .seed = seed,
                       .seed2 = seed2};
  const Array x = borrow(inputs, "inputs");
  return floating_type(x) == DType::kFloat64 ? run<double>(x, args) : run<float>(x, args);
}

}  // namespace

void register_sampled_loss(py::module_& module) {
  module.def("nce_loss", &nce_loss_arguments, py::arg("weights"), py::arg("biases"), py::arg("labels"),
             py::arg("inputs"), py::arg("num_sampled"), py::arg("num_classes"), py::arg("num_true"),
             py::arg("sampled_values"), py::arg("remove_accidental_hits"), py::arg("partition_strategy"),
             py::arg("seed"), py::arg("seed2"), py::arg("precision"), py::arg("with_grad"), py::arg("grad_loss"),
             py::arg("grad_dtype"));
}

}  // namespace fastnce::bindings
