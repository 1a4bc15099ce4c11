// What is computed over all classes, on a CUDA device.
#include <cstdint>
#include <utility>
#include <vector>

#include "bindings/arrays/without_gil.h"
#include "bindings/ops/cuda.h"
#include "bindings/ops/cuda_arguments.h"
#include "bindings/ops/cuda_call.h"
#include "fastnce/cuda.h"
#include "fastnce/error.h"

namespace fastnce::bindings {

namespace {

// Queues the work without the GIL, and tells Python when it is done.
template <class Queue>
void follow_on_device(PythonProgress& progress, const LossRequest& request, const cuda::Stream& stream,
                      const Queue& queue) {
  progress.follow([&](const Progress& report) {  // safe: whatever is borrowed or made is held by the caller
    queue();
    if (report.report == nullptr) return;
    cuda::synchronize(stream);
    const std::int64_t total = request.batch * request.num_classes;
    if (!report.report(report.context, total, total)) throw Interrupted();
  });
}

}  // namespace

py::tuple cuda_full_loss(const LossArguments& args, py::handle out, PythonProgress& progress) {
  if (!out.is_none()) {
    throw InvalidValue("out: expected None on a CUDA device, where the gradients of tables are new arrays");
  }
  const cuda::Stream stream = stream_of(args.device);
  const Place place = place_on(stream, "inputs");
  LossCall call(borrow_cuda_inputs(args.inputs, place), args, place);
  CudaCall gpu(args.device, stream);
  const LossRequest& request = call.request;
  use_targets(args, place, call, gpu);
  use_exclusions(args, place, call, gpu);
  use_parts(args, place, call, gpu);
  use_grad_loss(args, place, call, gpu);
  const cuda::LossPlan planned = cuda::plan_full_loss(request, stream.device);

  LossOutputs outputs;
  call.set_grad_dtypes(outputs);
  py::object grad_inputs = py::none(), grad_weights = py::none(), grad_biases = py::none(), log_sum_exp = py::none();
  const auto output = [](py::object& result, const CudaCall::Output& made) {
    result = made.array;
    return made.data;
  };
  py::object loss;
  outputs.loss = output(loss, gpu.empty(DType::kFloat32, call.batch_shape()));
  if (request.wanted.log_sum_exp) {
    outputs.log_sum_exp = static_cast<double*>(output(log_sum_exp, gpu.empty(DType::kFloat64, call.batch_shape())));
  }
  if (request.wanted.grad_inputs) {
    outputs.grad_inputs = output(grad_inputs, gpu.empty(*outputs.grad_inputs_dtype, call.inputs_shape()));
  }
  if (request.wanted.grad_weights) {
    outputs.grad_weights =
        output(grad_weights, gpu.empty(*outputs.grad_weights_dtype, {request.num_classes, request.dim}));
  }
  if (request.wanted.grad_biases) {
    outputs.grad_biases = output(grad_biases, gpu.empty(*outputs.grad_biases_dtype, {request.num_classes}));
  }
  const cuda::Workspace workspace = gpu.workspace(planned.workspace_bytes);
  follow_on_device(progress, request, stream, [&] { cuda::run(planned, outputs, workspace, stream); });
  gpu.finish();
  return py::make_tuple(loss, grad_inputs, grad_weights, grad_biases, log_sum_exp);
}

py::tuple cuda_top_k(const LossArguments& args, std::int64_t k, PythonProgress& progress) {
  const cuda::Stream stream = stream_of(args.device);
  const Place place = place_on(stream, "inputs");
  LossCall call(borrow_cuda_inputs(args.inputs, place), args, place);
  CudaCall gpu(args.device, stream);
  const LossRequest& request = call.request;
  use_exclusions(args, place, call, gpu);
  const cuda::Workspace workspace =
      gpu.workspace(cuda::top_k_workspace_bytes(request, k, request.exclude, stream.device));
  std::vector<std::int64_t> shape = call.batch_shape();
  shape.push_back(k);
  const CudaCall::Output scores = gpu.empty(DType::kFloat32, shape);
  const CudaCall::Output ids = gpu.empty("int64", shape);
  follow_on_device(progress, request, stream, [&] {
    cuda::top_k(request, k, request.exclude, static_cast<float*>(scores.data), static_cast<std::int64_t*>(ids.data),
                workspace, stream);
  });
  gpu.finish();
  return py::make_tuple(scores.array, ids.array);
}

py::object cuda_rank_of_labels(const LossArguments& args, PythonProgress& progress) {
  const cuda::Stream stream = stream_of(args.device);
  const Place place = place_on(stream, "inputs");
  LossCall call(borrow_cuda_inputs(args.inputs, place), args, place);
  CudaCall gpu(args.device, stream);
  const LossRequest& request = call.request;
  const std::vector<std::int64_t> shape = use_targets(args, place, call, gpu);
  use_exclusions(args, place, call, gpu);
  const cuda::Workspace workspace =
      gpu.workspace(cuda::rank_of_labels_workspace_bytes(request, request.targets, request.exclude, stream.device));
  const CudaCall::Output ranks = gpu.empty(DType::kFloat64, shape);
  follow_on_device(progress, request, stream, [&] {
    cuda::rank_of_labels(request, request.targets, request.exclude, static_cast<double*>(ranks.data), workspace,
                         stream);
  });
  gpu.finish();
  return ranks.array;
}

py::object cuda_score_labels(const LossArguments& args) {
  const cuda::Stream stream = stream_of(args.device);
  const Place place = place_on(stream, "inputs");
  LossCall call(borrow_cuda_inputs(args.inputs, place), args, place);
  CudaCall gpu(args.device, stream);
  const LossRequest& request = call.request;
  const std::vector<std::int64_t> shape = use_targets(args, place, call, gpu);
  const cuda::Workspace workspace =
      gpu.workspace(cuda::score_labels_workspace_bytes(request, request.targets, stream.device));
  const CudaCall::Output scores = gpu.empty(DType::kFloat32, shape);
  {
    const WithoutGil released;  // safe: whatever is borrowed or made is held here
    cuda::score_labels(request, request.targets, static_cast<float*>(scores.data), workspace, stream);
  }
  gpu.finish();
  return scores.array;
}

py::object cuda_rank_of_scores(const LossArguments& args, py::handle scores, py::handle offsets) {
  const cuda::Stream stream = stream_of(args.device);
  const Place place = place_on(stream, "inputs");
  LossCall call(borrow_cuda_inputs(args.inputs, place), args, place);
  CudaCall gpu(args.device, stream);
  const LossRequest& request = call.request;
  use_exclusions(args, place, call, gpu);
  Array given = borrow_or_convert(scores, "scores", place);
  require_rank(given, 1, "[n]");
  const std::vector<std::int64_t> shape = given.shape;
  const ScoreLists lists{.offsets = gpu.ids(borrow_offsets(offsets, "offsets", call, place), 1),
                         .scores = gpu.floats(std::move(given), shape, "[n]"),
                         .listed = shape[0]};
  const cuda::Workspace workspace =
      gpu.workspace(cuda::rank_of_scores_workspace_bytes(request, lists, request.exclude, stream.device));
  const CudaCall::Output ranks = gpu.empty(DType::kFloat64, shape);
  {
    const WithoutGil released;  // likewise
    cuda::rank_of_scores(request, lists, request.exclude, static_cast<double*>(ranks.data), workspace, stream);
  }
  gpu.finish();
  return ranks.array;
}

}  // namespace fastnce::bindings
