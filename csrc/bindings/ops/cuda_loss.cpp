// The sampled losses on a CUDA device: everything is queued on the framework's stream, in the framework's memory.
#include <optional>
#include <utility>

#include "bindings/arrays/without_gil.h"
#include "bindings/ops/cuda.h"
#include "bindings/ops/cuda_arguments.h"
#include "bindings/ops/cuda_call.h"
#include "bindings/ops/loss_arguments.h"
#include "bindings/ops/optimizer_argument.h"
#include "fastnce/cuda.h"
#include "fastnce/error.h"

namespace fastnce::bindings {

namespace {

void use_candidates(const LossArguments& args, const Place& place, LossCall& call, CudaCall& gpu) {
  LossRequest& request = call.request;
  const auto values = three_sampled_values(args.sampled_values);
  Array ids = borrow_candidates(values[0], call, place);
  const std::vector<std::int64_t> sampled_shape = ids.shape;
  request.negatives.ids = gpu.ids(std::move(ids), sampled_shape.size() == 2 ? request.negatives.count : 1);
  if (values[1].is_none() && values[2].is_none()) return;
  const bool logs = is_given(args.log_q) && boolean(args.log_q, "log_q");
  (logs ? request.targets.log_q : request.targets.expected_count) =
      floats_per_label(values[1], logs ? "true_log_q" : "true_expected_count", place, call, gpu);
  (logs ? request.negatives.log_q : request.negatives.expected_count) =
      gpu.floats(borrow_or_convert(values[2], logs ? "sampled_log_q" : "sampled_expected_count", place), sampled_shape,
                 "that of sampled_candidates");
}

void use_weight(py::handle given, const char* name, const Place& place, const LossCall& call, CudaCall& gpu,
                ExampleFactor& factor) {
  if (!is_given(given)) return;
  if (const std::optional<double> number = one_number(given, name, call.request.dtype)) {
    factor.all = *number;
  } else {
    factor.values = gpu.floats(borrow_or_convert(given, name, place), call.batch_shape(), "a number, or [B]");
  }
}

}  // namespace

py::object cuda_loss(const LossArguments& args) {
  const cuda::Stream stream = stream_of(args.device);
  const Place place = place_on(stream, "inputs");
  LossCall call(borrow_cuda_inputs(args.inputs, place), args, place);
  CudaCall gpu(args.device, stream);
  LossRequest& request = call.request;
  use_targets(args, place, call, gpu);
  use_exclusions(args, place, call, gpu);
  use_parts(args, place, call, gpu);
  use_grad_loss(args, place, call, gpu);
  use_weight(args.positive_weight, "positive_weight", place, call, gpu, request.loss.positive_weight);
  use_weight(args.negative_weight, "negative_weight", place, call, gpu, request.loss.negative_weight);
  if (is_given(args.sampled_values)) {
    use_candidates(args, place, call, gpu);
  } else {
    call.draw_candidates();
  }
  const cuda::LossPlan planned = cuda::plan(request, stream.device);
  std::optional<RowUpdate> update;
  OptimizerArgument* const optimizer = is_given(args.optimizer) ? args.optimizer.cast<OptimizerArgument*>() : nullptr;
  if (optimizer != nullptr) update = optimizer->of(request);

  LossOutputs outputs;
  const CudaCall::Output loss = gpu.empty(DType::kFloat32, call.batch_shape());
  outputs.loss = loss.data;
  call.set_grad_dtypes(outputs);
  py::object log_sum_exp = py::none(), grad_inputs = py::none(), row_ids = py::none(), grad_weights = py::none(),
             grad_biases = py::none();
  const auto output = [](py::object& result, const CudaCall::Output& made) {
    result = made.array;
    return made.data;
  };
  if (request.wanted.log_sum_exp) {
    outputs.log_sum_exp = static_cast<double*>(output(log_sum_exp, gpu.empty(DType::kFloat64, call.batch_shape())));
  }
  const std::int64_t rows = call.entries();
  if (request.wanted.grad_inputs) {
    outputs.grad_inputs = output(grad_inputs, gpu.empty(*outputs.grad_inputs_dtype, call.inputs_shape()));
  }
  if (update) {  // which takes the rows in float32
    outputs.grad_weights_dtype = outputs.grad_biases_dtype = DType::kFloat32;
    outputs.grad_weights = request.wanted.grad_weights ? gpu.temporary<float>("float32", rows * request.dim) : nullptr;
    outputs.grad_biases = request.wanted.grad_biases ? gpu.temporary<float>("float32", rows) : nullptr;
  }
  if (request.wanted.grad_weights && !update) {
    outputs.grad_weights = output(grad_weights, gpu.empty(*outputs.grad_weights_dtype, {rows, request.dim}));
  }
  if (request.wanted.grad_biases && !update) {
    outputs.grad_biases = output(grad_biases, gpu.empty(*outputs.grad_biases_dtype, {rows}));
  }
  if (request.wanted.rows()) {
    outputs.row_ids = static_cast<std::int64_t*>(output(row_ids, gpu.empty("int64", {rows})));
    outputs.row_count = gpu.temporary<std::int64_t>("int64", 1);
  }
  const cuda::Workspace workspace = gpu.workspace(planned.workspace_bytes);
  {
    const WithoutGil released;  // safe: whatever is borrowed or made is held here
    cuda::run(planned, outputs, workspace, stream);
    if (update && rows > 0) {
      const GradientRows complete{.count = rows,
                                  .ids = outputs.row_ids,
                                  .weights = outputs.grad_weights,
                                  .weights_stride = request.dim,
                                  .biases = outputs.grad_biases};
      cuda::update_complete_rows(*update, request, complete, outputs.row_count, stream);
    }
  }
  if (update) optimizer->count_step();
  py::object used = py::none();
  if (request.wanted.rows() && !call.pads_rows && !update) {
    used = py::int_([&] {
      const WithoutGil released;
      return rows > 0 ? cuda::read(outputs.row_count, stream) : 0;
    }());
  }
  gpu.finish();
  return py::make_tuple(loss.array, grad_inputs, row_ids, grad_weights, grad_biases, log_sum_exp, used);
}

}  // namespace fastnce::bindings
