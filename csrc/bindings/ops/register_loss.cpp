// The sampled losses: from Python's arguments to one LossRequest and back, on the CPU.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "bindings/arrays/row_padding.h"
#include "bindings/arrays/without_gil.h"
#include "bindings/ops/cuda.h"
#include "bindings/ops/loss_arguments.h"
#include "bindings/ops/register.h"
#include "fastnce/error.h"

namespace fastnce::bindings {

namespace {

constexpr Place kHost{.decided_by = "inputs"};

py::array filled(DType dtype, std::vector<std::int64_t> shape) {
  return new_array(dtype, {shape.begin(), shape.end()});
}

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

// One call on the host, converted. Owns what the request points to.
template <class T>
class HostCall {
 public:
  HostCall(Array inputs, const LossArguments& args) : call(std::move(inputs), args, kHost) {
    LossRequest& request = call.request;
    use_targets(args);
    use_exclusions(args);
    if (is_given(args.grad_loss)) {
      grad_loss_.emplace(borrow_or_convert(args.grad_loss, "grad_loss", kHost), call.batch_shape(),
                         "a shape that broadcasts to [B]");
      request.grad_loss = grad_loss_->data();
    }
    use_weight(args.positive_weight, "positive_weight", request.loss.positive_weight, positive_weight_);
    use_weight(args.negative_weight, "negative_weight", request.loss.negative_weight, negative_weight_);
    if (is_given(args.sampled_values)) {
      use_candidates(args);
    } else {
      call.draw_candidates();
    }
  }
  HostCall(const HostCall&) = delete;

  LossCall call;

 private:
  // Offsets [B + 1] of lists.
  const std::int64_t* use_offsets(py::handle given, const char* name, std::vector<std::int64_t>& offsets) {
    const Array array = borrow_or_convert(given, name, kHost);
    require_rank(array, 1, "[B + 1]");
    if (array.shape[0] != call.request.batch + 1) {
      throw InvalidValue(concat(name, " has shape ", array.shape_text(), ": expected [B + 1] = [",
                                call.request.batch + 1, "], as inputs has B = ", call.request.batch, " rows"));
    }
    offsets = copy_ids(array);
    return offsets.data();
  }

  void use_targets(const LossArguments& args) {
    Targets& targets = call.request.targets;
    labels_ = copy_ids(borrow_labels(args.labels, call, kHost));
    targets.ids = labels_.data();
    if (call.has_label_lists()) targets.offsets = use_offsets(args.label_offsets, "labels.offsets", label_offsets_);
    if (is_given(args.label_weights)) {
      targets.weights = per_label(args.label_weights, "label_weights", label_weights_);
    }
  }

  void use_exclusions(const LossArguments& args) {
    LossRequest& request = call.request;
    if (is_given(args.class_keys)) {
      const Array keys = borrow_or_convert(args.class_keys, "item_ids", kHost);
      require_rank(keys, 1, "[V]");
      if (keys.shape[0] != request.num_classes) {
        throw InvalidValue(concat("item_ids has shape ", keys.shape_text(), ": expected one for each item, [",
                                  request.num_classes, "]"));
      }
      class_keys_ = copy_ids(keys);
      request.class_keys = class_keys_.data();
    }
    if (!is_given(args.exclude)) return;
    const Array values = borrow_or_convert(args.exclude, "exclude.values", kHost);
    require_rank(values, 1, "[n]");
    exclude_ = copy_ids(values);
    request.exclude = {exclude_.data(), use_offsets(args.exclude_offsets, "exclude.offsets", exclude_offsets_)};
    if (exclude_offsets_.back() != values.shape[0]) {
      throw InvalidValue(concat("exclude.offsets[", request.batch, "] = ", exclude_offsets_.back(),
                                ": expected the number of values, ", values.shape[0]));
    }
  }

  const T* per_label(py::handle given, const char* name, std::optional<Values<T>>& values) {
    values.emplace(
        borrow_per_label(given, name, call, kHost), call.label_shape(),
        call.has_label_lists() ? "one for each of labels.values, [n]" : "a shape that broadcasts to [B, num_true]");
    return values->data();
  }

  void use_weight(py::handle given, const char* name, ExampleFactor& factor, std::optional<Values<T>>& values) {
    if (!is_given(given)) return;
    if (const std::optional<double> number = one_number(given, name, call.request.dtype)) {
      factor.all = *number;
      return;
    }
    values.emplace(borrow_or_convert(given, name, kHost), call.batch_shape(),
                   "a number, or a shape that broadcasts to [B]");
    factor.values = values->data();
  }

  void use_candidates(const LossArguments& args) {
    const auto values = three_sampled_values(args.sampled_values);
    const Array ids = borrow_candidates(values[0], call, kHost);
    sampled_ = copy_ids(ids);
    call.request.negatives.ids = sampled_.data();
    if (values[1].is_none() && values[2].is_none()) return;
    const bool logs = is_given(args.log_q) && boolean(args.log_q, "log_q");
    Targets& targets = call.request.targets;
    Negatives& negatives = call.request.negatives;
    (logs ? targets.log_q : targets.expected_count) =
        per_label(values[1], logs ? "true_log_q" : "true_expected_count", true_q_);
    std::vector<std::int64_t> sampled_shape{negatives.count};
    if (ids.rank() == 2) sampled_shape.insert(sampled_shape.begin(), negatives.groups);
    sampled_q_.emplace(borrow_or_convert(values[2], logs ? "sampled_log_q" : "sampled_expected_count", kHost),
                       sampled_shape, "a shape that broadcasts to that of sampled_candidates");
    (logs ? negatives.log_q : negatives.expected_count) = sampled_q_->data();
  }

  std::vector<std::int64_t> labels_, label_offsets_, sampled_, exclude_, exclude_offsets_, class_keys_;
  std::optional<Values<T>> grad_loss_, positive_weight_, negative_weight_, label_weights_, true_q_, sampled_q_;
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
  const auto output = [](py::object& result, py::array array) {
    void* const data = array.mutable_data();
    result = std::move(array);
    return data;
  };
  py::object loss, grad_inputs = py::none(), row_ids = py::none(), grad_weights = py::none(), grad_biases = py::none();
  outputs.loss = output(loss, filled(request.dtype, call.batch_shape()));
  if (request.wanted.grad_inputs) {
    outputs.grad_inputs = output(grad_inputs, filled(*outputs.grad_inputs_dtype, call.inputs_shape()));
  }
  if (request.wanted.rows()) {
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
  return py::make_tuple(loss, grad_inputs, row_ids, grad_weights, grad_biases, py::none());
}

Array borrow_inputs(py::handle object) {
  Array inputs = borrow_differentiable(object, "inputs", kHost);
  make_rows_contiguous(inputs);
  return inputs;
}

py::object compute_loss(const py::dict& fields) {
  const LossArguments args(fields);
  if (is_given(args.device)) return cuda_loss(args);
  Array inputs = borrow_inputs(args.inputs);
  return floating_type(inputs) == DType::kFloat64 ? run<double>(std::move(inputs), args)
                                                  : run<float>(std::move(inputs), args);
}

// Throws what the call would throw, without computing.
void check_loss(const py::dict& fields) {
  const LossArguments args(fields);
  Array inputs = borrow_inputs(args.inputs);
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
