// The sampled losses: from Python's arguments to one SampledLossParams and back, on the CPU.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "bindings/cuda.h"
#include "bindings/register.h"
#include "bindings/row_padding.h"
#include "bindings/sampled_loss_arguments.h"
#include "bindings/without_gil.h"
#include "fastnce/error.h"

namespace fastnce::bindings {

namespace {

constexpr Place kHost{.decided_by = "inputs"};

// The candidates of one call: given by the caller, or drawn here.
template <class T>
class Candidates {
 public:
  Candidates(py::handle given, const SampledLossParams& params) {
    const auto values = three_sampled_values(given);
    ids_ = copy_ids(borrow_candidates(values[0], params.num_sampled, kHost));
    const std::int64_t true_shape[] = {params.batch, params.num_true};
    true_count_.emplace(borrow_true_count(values[1], params, kHost), true_shape,
                        "a shape that broadcasts to [B, num_true]");
    const std::int64_t sampled_shape[] = {params.num_sampled};
    sampled_count_.emplace(borrow_or_convert(values[2], "sampled_expected_count", kHost), sampled_shape,
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

// Row gradients on their way to Python: n rows, or as many as there are entries.
struct RowArrays {
  RowArrays(const LossCall& call, const RowPlan& plan, bool padded)
      : rows(padded ? call.entries() : std::ssize(plan.ids)), ids(rows), plan_(plan) {
    pad_ids(plan, {ids.mutable_data(), static_cast<std::size_t>(rows)});
  }

  // A result of `rows` rows whose padding is zero.
  py::array values(DType dtype, std::vector<py::ssize_t> shape) const {
    py::array array = new_array(dtype, std::move(shape));
    auto* const bytes = static_cast<std::byte*>(array.mutable_data());
    pad_gradients(plan_, rows, {bytes, static_cast<std::size_t>(array.nbytes())});
    return array;
  }

  py::ssize_t rows;
  py::array_t<std::int64_t> ids;

 private:
  const RowPlan& plan_;
};

// One call on the host, converted and validated; where candidates are still to be drawn, all but them.
template <class T>
struct HostCall {
  HostCall(const Array& inputs, const LossArguments& args) : call(inputs, args, kHost), sampling(call.sampling()) {
    SampledLossParams& params = call.params;
    const Array label_array = borrow_or_convert(args.labels, "labels", kHost);
    require_classes(label_array, params.batch, params.num_true);
    labels = copy_ids(label_array);
    params.labels = labels.data();
    if (!args.grad_loss.is_none()) {
      const std::int64_t shape[] = {params.batch};
      grad_loss.emplace(borrow_or_convert(args.grad_loss, "grad_loss", kHost), shape, "a shape that broadcasts to [B]");
      params.grad_loss = grad_loss->data();
    }
    if (args.sampled_values.is_none()) {
      // All but the candidates: labels must be in range before their counts are computed.
      if (params.num_sampled > 0) validate(params);
      validate(sampling);
    } else {
      candidates.emplace(args.sampled_values, params);
      use_candidates();
      validate(params);
    }
  }
  HostCall(const HostCall&) = delete;

  // Needs no Python.
  void draw_candidates() {
    candidates.emplace(sampling, labels);
    use_candidates();
  }

  LossCall call;
  LogUniformParams sampling;
  std::vector<std::int64_t> labels;
  std::optional<Values<T>> grad_loss;
  std::optional<Candidates<T>> candidates;

 private:
  void use_candidates() {
    call.params.sampled = candidates->ids().data();
    call.params.true_count = candidates->true_count();
    call.params.sampled_count = candidates->sampled_count();
  }
};

template <class T>
py::object run(const Array& inputs, const LossArguments& args) {
  HostCall<T> host(inputs, args);
  LossCall& call = host.call;
  SampledLossParams& params = call.params;
  RowPlan plan;
  {
    // Safe, here and below: inputs are borrowed or copied, outputs are ours, and no Python object is touched.
    const WithoutGil released;
    if (!host.candidates) host.draw_candidates();
    if (args.row_gradients()) plan = plan_rows(host.labels, host.candidates->ids());
  }

  py::array_t<T> loss(params.batch);
  params.loss = loss.mutable_data();
  call.set_grad_dtypes();
  py::object grad_inputs = py::none(), row_ids = py::none(), grad_weights = py::none(), grad_biases = py::none();
  const auto output = [](py::object& result, py::array array) {
    void* const data = array.mutable_data();
    result = std::move(array);
    return data;
  };
  if (args.grad_inputs) {
    params.grad_inputs = output(grad_inputs, new_array(*params.grad_inputs_dtype, {params.batch, params.dim}));
  }
  if (args.row_gradients()) {
    const RowArrays rows(call, plan, args.pad_rows);
    params.rows = &plan;
    row_ids = rows.ids;
    if (args.grad_weights) {
      params.grad_weights = output(grad_weights, rows.values(*params.grad_weights_dtype, {rows.rows, params.dim}));
    }
    if (args.grad_biases) {
      params.grad_biases = output(grad_biases, rows.values(*params.grad_biases_dtype, {rows.rows}));
    }
  }
  {
    const WithoutGil released;
    nce_loss(params);
  }
  return py::make_tuple(loss, grad_inputs, row_ids, grad_weights, grad_biases, py::none());
}

Array borrow_inputs(py::handle object) {
  Array inputs = borrow_differentiable(object, "inputs", kHost);
  make_rows_contiguous(inputs);
  return inputs;
}

py::object nce_loss_arguments(py::handle weights, py::handle biases, py::handle labels, py::handle inputs,
                              py::handle num_sampled, py::handle num_classes, py::handle num_true,
                              py::handle sampled_values, py::handle remove_accidental_hits,
                              py::handle partition_strategy, std::uint64_t seed, std::uint64_t seed2,
                              std::uint64_t call, std::uintptr_t calls, py::handle precision,
                              const std::array<bool, 3>& gradients, py::handle grad_loss, py::handle grad_dtype,
                              py::handle pad_rows, py::handle device) {
  const LossArguments args{.weights = weights,
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
                           .pad_rows = boolean(pad_rows, "pad_rows"),
                           .seed = seed,
                           .seed2 = seed2,
                           .call = call,
                           .calls = calls,
                           .grad_inputs = gradients[0],
                           .grad_weights = gradients[1],
                           .grad_biases = gradients[2]};
  if (!device.is_none()) return cuda_nce_loss(inputs, args, device);
  const Array x = borrow_inputs(inputs);
  return floating_type(x) == DType::kFloat64 ? run<double>(x, args) : run<float>(x, args);
}

// Throws what the call would throw, without computing.
void check_nce_loss(py::handle weights, py::handle biases, py::handle labels, py::handle inputs, py::handle num_sampled,
                    py::handle num_classes, py::handle num_true, py::handle sampled_values,
                    py::handle remove_accidental_hits, py::handle precision, py::handle grad_loss) {
  const py::str one_shard("div");
  const LossArguments args{.weights = weights,
                           .biases = biases,
                           .labels = labels,
                           .num_sampled = num_sampled,
                           .num_classes = num_classes,
                           .num_true = num_true,
                           .sampled_values = sampled_values,
                           .remove_accidental_hits = remove_accidental_hits,
                           .partition_strategy = one_shard,
                           .precision = precision,
                           .grad_loss = grad_loss,
                           .grad_dtype = py::none(),
                           .pad_rows = false,
                           .seed = 0,
                           .seed2 = 0,
                           .call = 0,
                           .calls = 0,
                           .grad_inputs = false,
                           .grad_weights = false,
                           .grad_biases = false};
  const Array x = borrow_inputs(inputs);
  if (floating_type(x) == DType::kFloat64) {
    const HostCall<double> checked(x, args);
  } else {
    const HostCall<float> checked(x, args);
  }
}

}  // namespace

void register_sampled_loss(py::module_& module) {
  module.def("nce_loss", &nce_loss_arguments, py::arg("weights"), py::arg("biases"), py::arg("labels"),
             py::arg("inputs"), py::arg("num_sampled"), py::arg("num_classes"), py::arg("num_true"),
             py::arg("sampled_values"), py::arg("remove_accidental_hits"), py::arg("partition_strategy"),
             py::arg("seed"), py::arg("seed2"), py::arg("call"), py::arg("calls"), py::arg("precision"),
             py::arg("gradients"), py::arg("grad_loss"), py::arg("grad_dtype"), py::arg("pad_rows"), py::arg("device"));
  module.def("check_nce_loss", &check_nce_loss, py::arg("weights"), py::arg("biases"), py::arg("labels"),
             py::arg("inputs"), py::arg("num_sampled"), py::arg("num_classes"), py::arg("num_true"),
             py::arg("sampled_values"), py::arg("remove_accidental_hits"), py::arg("precision"), py::arg("grad_loss"));
}

}  // namespace fastnce::bindings
