#include "bindings/ops/cuda_arguments.h"

#include <utility>

#include "fastnce/error.h"

namespace fastnce::bindings {

Array borrow_cuda_inputs(py::handle inputs, const Place& place) {
  Array array = borrow_differentiable(inputs, "inputs", place);
  if (floating_type(array) == DType::kFloat64) {
    throw InvalidType("inputs has dtype float64: expected float32, float16 or bfloat16 on a CUDA device");
  }
  return array;
}

const float* floats_per_label(py::handle given, const char* name, const Place& place, const LossCall& call,
                              CudaCall& gpu) {
  Array values = borrow_per_label(given, name, call, place);
  if (!call.has_label_lists() && values.rank() == 1 && call.request.targets.per_example == 1) {  // of a batch of one
    values.shape.push_back(1);
    values.strides.push_back(1);
  }
  return gpu.floats(std::move(values), call.label_shape(), call.has_label_lists() ? "[n]" : "[B, num_true]");
}

std::vector<std::int64_t> use_targets(const LossArguments& args, const Place& place, LossCall& call, CudaCall& gpu) {
  Targets& targets = call.request.targets;
  Array labels = borrow_labels(args.labels, call, place);
  const std::vector<std::int64_t> shape = labels.shape;
  if (call.has_label_lists()) {
    targets.ids = gpu.ids(std::move(labels), 1);
    targets.offsets = gpu.ids(borrow_offsets(args.label_offsets, "labels.offsets", call, place), 1);
  } else {
    merge_leading_axes(labels, labels.rank() == std::ssize(call.batch_shape()) ? 0 : 1);
    targets.ids = gpu.ids(std::move(labels), targets.per_example);
  }
  if (is_given(args.label_weights))
    targets.weights = floats_per_label(args.label_weights, "label_weights", place, call, gpu);
  return shape;
}

void use_exclusions(const LossArguments& args, const Place& place, LossCall& call, CudaCall& gpu) {
  LossRequest& request = call.request;
  if (is_given(args.class_keys)) request.class_keys = gpu.ids(borrow_class_keys(args.class_keys, call, place), 1);
  if (!is_given(args.exclude)) return;
  Array values = borrow_or_convert(args.exclude, "exclude.values", place);
  require_rank(values, 1, "[n]");
  request.exclude.listed = values.shape[0];
  request.exclude.ids = gpu.ids(std::move(values), 1);
  request.exclude.offsets = gpu.ids(borrow_offsets(args.exclude_offsets, "exclude.offsets", call, place), 1);
}

void use_parts(const LossArguments& args, const Place& place, LossCall& call, CudaCall& gpu) {
  OtherParts& parts = call.request.parts;
  if (is_given(args.label_counts)) {
    Array counts = borrow_per_example(args.label_counts, "label_counts", call, place);
    merge_leading_axes(counts, 0);
    parts.label_count = gpu.ids(std::move(counts), 1);
  }
  const auto per_example = [&](py::handle given, const char* name) {
    if (!is_given(given)) return static_cast<const double*>(nullptr);
    return gpu.doubles(borrow_per_example(given, name, call, place), call.batch_shape(), "[B]");
  };
  parts.label_weight = per_example(args.label_weight_sums, "label_weight_sums");
  parts.log_sum_exp = per_example(args.other_log_sum_exp, "other_log_sum_exp");
}

void use_grad_loss(const LossArguments& args, const Place& place, LossCall& call, CudaCall& gpu) {
  if (!is_given(args.grad_loss)) return;
  Array factors = borrow_or_convert(args.grad_loss, "grad_loss", place);
  call.request.grad_loss = gpu.floats(std::move(factors), call.batch_shape(), "[B]");
}

}  // namespace fastnce::bindings
