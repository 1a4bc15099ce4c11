#include "bindings/ops/loss_arguments.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <optional>
#include <utility>

#include "fastnce/config.h"
#include "fastnce/error.h"

namespace fastnce::bindings {

namespace {

Partition partition_from(py::handle strategy) {
  if (strategy.ptr() == nullptr) return Partition::kDiv;
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

DType compute_dtype(const Array& inputs) {
  return floating_type(inputs) == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
}

template <class Choice>
Choice one_of(py::handle object, const char* name, std::initializer_list<std::pair<const char*, Choice>> choices) {
  if (!is_given(object)) return choices.begin()->second;
  std::string expected;
  for (const auto& [text, choice] : choices) {
    if (py::isinstance<py::str>(object) && object.cast<std::string>() == text) return choice;
    expected += concat(expected.empty() ? "'" : " or '", text, "'");
  }
  if (!py::isinstance<py::str>(object)) throw InvalidType(concat(name, is_a(object), ": expected ", expected));
  throw InvalidValue(concat(name, " = '", object.cast<std::string>(), "': expected ", expected));
}

// Sizes and options, and of the inputs what the core needs to know.
LossRequest request_from(const Array& inputs, const LossArguments& args) {
  LossRequest request;
  request.inputs_dtype = floating_type(inputs);
  request.dtype = compute_dtype(inputs);
  request.precision = is_given(args.precision) ? precision_argument(args.precision) : default_precision();
  if (is_given(args.num_sampled)) request.negatives.count = integer(args.num_sampled, "num_sampled");
  if (is_given(args.num_classes)) request.num_classes = integer(args.num_classes, "num_classes");
  request.targets.per_example = is_given(args.num_true) ? integer(args.num_true, "num_true") : 1;
  if (is_given(args.padding)) request.targets.padding = integer(args.padding, "padding");
  request.loss.family =
      one_of(args.family, "family",
             {std::pair{"logistic", LossFamily::kLogistic}, std::pair{"softmax", LossFamily::kSoftmax}});
  request.loss.true_target = one_of(args.true_target, "true_target",
                                    {std::pair{"mean", TrueTarget::kMean}, std::pair{"one", TrueTarget::kOne}});
  request.loss.remove_accidental_hits =
      args.remove_accidental_hits.ptr() != nullptr && boolean(args.remove_accidental_hits, "remove_accidental_hits");
  if (is_given(args.temperature)) {
    const std::optional<double> number = one_number(args.temperature, "temperature", request.dtype);
    if (!number) throw InvalidType(concat("temperature", is_a(args.temperature), ": expected a number"));
    request.temperature = *number;
  }
  if (request.targets.per_example < 0) {
    throw InvalidValue(concat("num_true = ", request.targets.per_example, ": expected at least 0"));
  }
  request.weights.partition = request.biases.partition = partition_from(args.partition_strategy);
  if (args.gradients.ptr() != nullptr) {
    const auto wanted = args.gradients.cast<std::array<bool, 3>>();
    request.wanted.grad_inputs = wanted[0];
    request.wanted.grad_weights = wanted[1];
    request.wanted.grad_biases = wanted[2] && is_given(args.biases);
  }
  request.wanted.log_sum_exp = args.log_sum_exp.ptr() != nullptr && boolean(args.log_sum_exp, "log_sum_exp");
  require_matrix(inputs, "[B, D]");
  request.batch = inputs.shape[0];
  request.dim = inputs.shape[1];
  request.inputs = inputs.data;
  request.inputs_stride = inputs.strides[0];
  return request;
}

const char* weights_name(const LossArguments& args) {
  return is_given(args.weights_name) ? PyUnicode_AsUTF8(args.weights_name.ptr()) : "weights";
}

// The axes before D become one.
Array merged(Array inputs) {
  merge_leading_axes(inputs, 1);
  return inputs;
}

struct Field {
  const char* name;
  py::handle LossArguments::* member;
};

constexpr Field kFields[] = {
    {"weights", &LossArguments::weights},
    {"biases", &LossArguments::biases},
    {"labels", &LossArguments::labels},
    {"inputs", &LossArguments::inputs},
    {"num_sampled", &LossArguments::num_sampled},
    {"num_classes", &LossArguments::num_classes},
    {"num_true", &LossArguments::num_true},
    {"remove_accidental_hits", &LossArguments::remove_accidental_hits},
    {"partition_strategy", &LossArguments::partition_strategy},
    {"precision", &LossArguments::precision},
    {"padding", &LossArguments::padding},
    {"label_weights", &LossArguments::label_weights},
    {"exclude", &LossArguments::exclude},
    {"true_target", &LossArguments::true_target},
    {"family", &LossArguments::family},
    {"positive_weight", &LossArguments::positive_weight},
    {"negative_weight", &LossArguments::negative_weight},
    {"sampled_values", &LossArguments::sampled_values},
    {"seed", &LossArguments::seed},
    {"gradients", &LossArguments::gradients},
    {"weights_name", &LossArguments::weights_name},
    {"label_offsets", &LossArguments::label_offsets},
    {"log_q", &LossArguments::log_q},
    {"exclude_offsets", &LossArguments::exclude_offsets},
    {"class_keys", &LossArguments::class_keys},
    {"temperature", &LossArguments::temperature},
    {"call", &LossArguments::call},
    {"calls", &LossArguments::calls},
    {"grad_loss", &LossArguments::grad_loss},
    {"grad_dtype", &LossArguments::grad_dtype},
    {"pad_rows", &LossArguments::pad_rows},
    {"label_counts", &LossArguments::label_counts},
    {"label_weight_sums", &LossArguments::label_weight_sums},
    {"other_log_sum_exp", &LossArguments::other_log_sum_exp},
    {"log_sum_exp", &LossArguments::log_sum_exp},
    {"optimizer", &LossArguments::optimizer},
    {"device", &LossArguments::device},
};

// Interned, as keywords are: most comparisons are of addresses.
const std::array<PyObject*, std::size(kFields)>& field_names() {
  static const auto names = [] {
    std::array<PyObject*, std::size(kFields)> interned;
    for (std::size_t i = 0; i < interned.size(); ++i) interned[i] = PyUnicode_InternFromString(kFields[i].name);
    return interned;
  }();
  return names;
}

// The place of a field in kFields. Callers name fields in that order, so that most are found where the search begins.
std::size_t place_of(PyObject* key, std::size_t begin) {
  const auto& names = field_names();
  for (std::size_t i = begin; i < names.size(); ++i) {
    if (names[i] == key) return i;
  }
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i] == key || PyUnicode_Compare(names[i], key) == 0) return i;
  }
  throw InvalidType(concat("a loss has no argument ", py::repr(key).cast<std::string>()));
}

}  // namespace

py::tuple loss_fields() {
  py::list names;
  for (const Field& field : kFields) names.append(field.name);
  return py::tuple(names);
}

LossArguments::LossArguments(const py::dict& given) {
  PyObject* key = nullptr;
  PyObject* value = nullptr;
  std::size_t next = 0;
  for (Py_ssize_t at = 0; PyDict_Next(given.ptr(), &at, &key, &value);) {
    const std::size_t place = place_of(key, next);
    this->*kFields[place].member = value;
    next = place + 1;
  }
}

TableArgument::TableArgument(py::handle object, const char* name, const Array& inputs, std::int64_t columns,
                             const Place& place)
    : dtype_(floating_type(inputs)) {
  if (!is_given(object)) return;
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
    throw InvalidType(
        concat(name, " has dtype ", shard.type_name(), " but ", inputs.name, " has dtype ", inputs.type_name(),
               ": expected ", wide_inputs ? "the same" : "float32, float16 or bfloat16", "; convert ", inputs.name,
               " or ", name, ", as in array.astype('", wide_inputs ? shard.type_name() : "float32", "')"));
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

LossCall::LossCall(Array inputs, const LossArguments& arguments, const Place& place)
    : pads_rows(arguments.pad_rows.ptr() != nullptr && boolean(arguments.pad_rows, "pad_rows")),
      arguments_(arguments),
      batch_shape_(inputs.shape.begin(), inputs.shape.end() - (inputs.rank() > 0 ? 1 : 0)),
      inputs_shape_(inputs.shape),
      inputs_(merged(std::move(inputs))),
      request(request_from(inputs_, arguments)),
      weights_(arguments.weights, weights_name(arguments), inputs_, request.dim, place),
      biases_(arguments.biases, "biases", inputs_, -1, place) {
  request.weights = weights_.table(request.weights.partition);
  request.biases = biases_.table(request.biases.partition);
  request.weights_dtype = weights_.dtype();
  request.biases_dtype = biases_.dtype();
  if (!is_given(arguments.num_classes)) {
    if (request.weights.shards.empty()) throw InvalidValue("weights has no shards: expected at least one");
    request.num_classes = request.weights.rows();
  }
  if (is_given(arguments.grad_dtype)) require_float32(arguments.grad_dtype, request.dtype);
}

void LossCall::set_grad_dtypes(LossOutputs& outputs) const {
  const auto grad_type = [&](std::optional<DType> own) {
    return is_given(arguments_.grad_dtype) ? request.dtype : own;
  };
  outputs.grad_inputs_dtype = grad_type(request.inputs_dtype);
  outputs.grad_weights_dtype = grad_type(request.weights_dtype);
  outputs.grad_biases_dtype = grad_type(request.biases_dtype);
}

void LossCall::draw_candidates() {
  SamplerParams sampler{.distribution = {.range_max = request.num_classes}, .num_sampled = request.negatives.count};
  const auto seed = arguments_.seed.cast<std::array<std::uint64_t, 2>>();
  sampler.seed = seed[0];
  sampler.seed2 = seed[1];
  if (is_given(arguments_.call)) sampler.call = arguments_.call.cast<std::uint64_t>();
  if (is_given(arguments_.calls)) {
    request.negatives.calls = reinterpret_cast<std::uint64_t*>(arguments_.calls.cast<std::uintptr_t>());
  }
  request.negatives.sampler = sampler;
}

std::vector<std::int64_t> LossCall::label_shape() const {
  if (has_label_lists()) return {request.targets.listed};
  std::vector<std::int64_t> shape = batch_shape_;
  shape.push_back(request.targets.per_example);
  return shape;
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
  const std::array<py::object, 3> three{values[0], values[1], values[2]};
  const char* const counts[] = {"true_expected_count", "sampled_expected_count"};
  for (int i = 0; i < 2; ++i) {
    if (!three[1 + i].is_none() || three[2 - i].is_none()) continue;
    throw InvalidValue(concat(counts[i], " is None, but ", counts[1 - i], " is not: expected both or neither"));
  }
  return three;
}

Array borrow_candidates(py::handle object, LossCall& call, const Place& place) {
  Array ids = borrow_or_convert(object, "sampled_candidates", place);
  if (ids.rank() != 1 && ids.rank() != 2) {
    throw InvalidValue(concat("sampled_candidates has shape ", ids.shape_text(), " of rank ", ids.rank(),
                              ": expected [S], or [G, S] of groups"));
  }
  Negatives& negatives = call.request.negatives;
  if (ids.rank() == 2) negatives.groups = ids.shape[0];
  if (!call.names_num_sampled()) negatives.count = ids.shape.back();
  if (ids.shape.back() != negatives.count) {
    throw InvalidValue(concat("sampled_candidates has shape ", ids.shape_text(), ": expected [num_sampled] = [",
                              negatives.count, "]", ids.rank() == 2 ? ", or [G, num_sampled]" : ""));
  }
  return ids;
}

Array borrow_labels(py::handle object, LossCall& call, const Place& place) {
  Array labels = borrow_or_convert(object, call.has_label_lists() ? "labels.values" : "labels", place);
  const std::int64_t num_true = call.request.targets.per_example;
  if (call.has_label_lists()) {
    require_rank(labels, 1, "[n]");
    call.request.targets.listed = labels.shape[0];
    return labels;
  }
  if (!call.names_num_true()) {
    const std::vector<std::int64_t>& batch = call.batch_shape();
    const bool flat = labels.shape == batch;
    const bool has_axis =
        labels.rank() == std::ssize(batch) + 1 && std::equal(batch.begin(), batch.end(), labels.shape.begin());
    if (!flat && !has_axis) {
      const std::string leading = shape_text(batch);
      throw InvalidValue(concat("labels has shape ", labels.shape_text(), ": expected ", leading, " or ",
                                leading.substr(0, leading.size() - 1), batch.empty() ? "T]" : ", T]",
                                ", as inputs has shape ", shape_text(call.inputs_shape())));
    }
    call.request.targets.per_example = flat ? 1 : labels.shape.back();
    return labels;
  }
  if (call.batch_shape().size() == 1) {
    require_classes(labels, call.request.batch, num_true);
    return labels;
  }
  const bool flat = num_true == 1 && labels.shape == call.batch_shape();
  if (!flat && labels.shape != call.label_shape()) {
    throw InvalidValue(concat("labels has shape ", labels.shape_text(), ": expected ", shape_text(call.label_shape()),
                              num_true == 1 ? concat(" or ", shape_text(call.batch_shape())) : "",
                              ", as inputs has shape ", shape_text(call.inputs_shape()), " and num_true = ", num_true));
  }
  return labels;
}

Array borrow_offsets(py::handle object, const char* name, const LossCall& call, const Place& place) {
  Array offsets = borrow_or_convert(object, name, place);
  require_rank(offsets, 1, "[B + 1]");
  const std::int64_t batch = call.request.batch;
  if (offsets.shape[0] == batch + 1) return offsets;
  throw InvalidValue(concat(name, " has shape ", offsets.shape_text(), ": expected [B + 1] = [", batch + 1,
                            "], as inputs has B = ", batch, " rows"));
}

Array borrow_class_keys(py::handle object, const LossCall& call, const Place& place) {
  Array keys = borrow_or_convert(object, "item_ids", place);
  require_rank(keys, 1, "[V]");
  const std::int64_t num_classes = call.request.num_classes;
  if (keys.shape[0] == num_classes) return keys;
  throw InvalidValue(
      concat("item_ids has shape ", keys.shape_text(), ": expected one for each item, [", num_classes, "]"));
}

Array borrow_per_example(py::handle object, const char* name, const LossCall& call, const Place& place) {
  Array values = borrow_or_convert(object, name, place);
  if (values.shape == call.batch_shape()) return values;
  throw InvalidValue(concat(name, " has shape ", values.shape_text(), ": expected one number for each example"));
}

Array borrow_per_label(py::handle object, const char* name, const LossCall& call, const Place& place) {
  Array values = borrow_or_convert(object, name, place);
  if (call.has_label_lists()) return values;
  const std::int64_t num_true = call.request.targets.per_example;
  // [B] values are one per example. Broadcast against [B, T] they would run along T, or against [B, 1] become [B, B]:
  // a wrong loss without an error.
  const bool per_example =
      call.batch_shape().size() == 1 ? values.rank() == 1 && values.shape[0] != 1 : values.shape == call.batch_shape();
  if (!per_example) return values;
  if (num_true != 1) {
    throw InvalidValue(concat(values.name, " has shape ", values.shape_text(),
                              ": expected [B, num_true] = ", shape_text(call.label_shape()), " or [B, 1]"));
  }
  values.shape.push_back(1);
  values.strides.push_back(1);
  return values;
}

std::optional<double> one_number(py::handle object, const char* name, DType dtype) {
  if (PyBool_Check(object.ptr())) throw InvalidType(concat(name, is_a(object), ": expected a number or an array"));
  const bool is_number = PyFloat_Check(object.ptr()) || PyLong_Check(object.ptr());
  if (!is_number) return {};
  double value = PyFloat_AsDouble(object.ptr());
  const bool overflows = PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_OverflowError);  // an integer
  if (overflows) {
    PyErr_Clear();
    value = PyObject_RichCompareBool(object.ptr(), py::int_(0).ptr(), Py_LT) == 1 ? -INFINITY : INFINITY;
  }
  if (PyErr_Occurred()) throw py::error_already_set();
  const bool wide = dtype == DType::kFloat64;
  const double largest = wide ? std::numeric_limits<double>::max() : std::numeric_limits<float>::max();
  if (std::abs(value) <= largest) return value;
  const std::string got = overflows ? " is an integer too large for a float" : concat(" = ", value);
  throw InvalidValue(concat(name, got, ": expected a finite number of ", wide ? "float64" : "float32", ", at most ",
                            largest, " in magnitude"));
}

}  // namespace fastnce::bindings
