// The sampled losses: from Python's arguments to one SampledLossParams and back, on the CPU.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

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
      : rows(padded ? call.entries() : std::ssize(plan.ids)),
        ids(rows),
        weights(new_array(*call.params.grad_weights_dtype, {rows, call.params.dim})),
        biases(new_array(*call.params.grad_biases_dtype, {rows})) {
    pad_ids(plan, {ids.mutable_data(), static_cast<std::size_t>(rows)});
    for (py::array* const array : {&weights, &biases}) {
      pad_gradients(plan, rows,
                    {static_cast<std::byte*>(array->mutable_data()), static_cast<std::size_t>(array->nbytes())});
    }
  }

  py::ssize_t rows;
  py::array_t<std::int64_t> ids;
  py::array weights, biases;
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
    if (args.with_grad) plan = plan_rows(host.labels, host.candidates->ids());
  }

  py::array_t<T> loss(params.batch);
  params.loss = loss.mutable_data();
  if (!args.with_grad) {
    const WithoutGil released;
    nce_loss(params);
    return loss;
  }
  call.set_grad_dtypes();
  py::array grad_inputs = new_array(*params.grad_inputs_dtype, {params.batch, params.dim});
  RowArrays rows(call, plan, args.pad_rows);
  params.rows = &plan;
  params.grad_inputs = grad_inputs.mutable_data();
  params.grad_weights = rows.weights.mutable_data();
  params.grad_biases = rows.biases.mutable_data();
  {
    const WithoutGil released;
    nce_loss(params);
  }
  return py::make_tuple(loss, grad_inputs, rows.ids, rows.weights, rows.biases);
}

py::object nce_loss_arguments(py::handle weights, py::handle biases, py::handle labels, py::handle inputs,
                              py::handle num_sampled, py::handle num_classes, py::handle num_true,
                              py::handle sampled_values, py::handle remove_accidental_hits,
                              py::handle partition_strategy, std::uint64_t seed, std::uint64_t seed2,
                              py::handle precision, bool with_grad, py::handle grad_loss, py::handle grad_dtype,
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
                           .with_grad = with_grad,
                           .pad_rows = boolean(pad_rows, "pad_rows"),
                           .seed = seed,
                           .seed2 = seed2};
  if (!device.is_none()) return cuda_nce_loss(inputs, args, device);
  const Array x = borrow(inputs, "inputs", kHost);
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
                           .with_grad = false,
                           .pad_rows = false,
                           .seed = 0,
                           .seed2 = 0};
  const Array x = borrow(inputs, "inputs", kHost);
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
             py::arg("seed"), py::arg("seed2"), py::arg("precision"), py::arg("with_grad"), py::arg("grad_loss"),
             py::arg("grad_dtype"), py::arg("pad_rows"), py::arg("device"));
  module.def("check_nce_loss", &check_nce_loss, py::arg("weights"), py::arg("biases"), py::arg("labels"),
             py::arg("inputs"), py::arg("num_sampled"), py::arg("num_classes"), py::arg("num_true"),
             py::arg("sampled_values"), py::arg("remove_accidental_hits"), py::arg("precision"), py::arg("grad_loss"));
}

}  // namespace fastnce::bindings
