// The sampled losses on a CUDA device: everything is queued on the framework's stream, in the framework's memory.
#include <array>
#include <optional>

#include "bindings/cuda.h"
#include "bindings/cuda_call.h"
#include "bindings/without_gil.h"
#include "fastnce/cuda.h"
#include "fastnce/error.h"

namespace fastnce::bindings {

namespace {

Array borrow_inputs(py::handle inputs, const Place& place) {
  Array array = borrow_differentiable(inputs, "inputs", place);
  if (floating_type(array) == DType::kFloat64) {
    throw InvalidType("inputs has dtype float64: expected float32, float16 or bfloat16 on a CUDA device");
  }
  return array;
}

void use_given_candidates(py::handle given, const Place& place, SampledLossParams& params, CudaCall& gpu) {
  const auto values = three_sampled_values(given);
  params.sampled = gpu.ids(borrow_candidates(values[0], params.num_sampled, place), 1);
  const std::int64_t true_shape[] = {params.batch, params.num_true};
  Array true_count = borrow_true_count(values[1], params, place);
  if (true_count.rank() == 1 && params.num_true == 1) {  // of a batch of one
    true_count.shape.push_back(1);
    true_count.strides.push_back(1);
  }
  params.true_count = gpu.floats(std::move(true_count), true_shape, "[B, num_true]");
  const std::int64_t sampled_shape[] = {params.num_sampled};
  params.sampled_count =
      gpu.floats(borrow_or_convert(values[2], "sampled_expected_count", place), sampled_shape, "[num_sampled]");
}

// Log-uniform and unique, as on the CPU.
void draw_candidates(const LogUniformParams& sampling, std::uintptr_t calls, SampledLossParams& params, CudaCall& gpu) {
  const std::int64_t num_labels = params.batch * params.num_true;
  const cuda::Candidates candidates{.sampled = gpu.temporary<std::int64_t>("int64", params.num_sampled),
                                    .sampled_count = gpu.temporary<float>("float32", params.num_sampled),
                                    .true_count = gpu.temporary<float>("float32", num_labels)};
  const cuda::Workspace workspace = gpu.workspace(cuda::workspace_bytes(sampling));
  cuda::log_uniform_candidates(sampling, reinterpret_cast<std::uint64_t*>(calls), params.labels, num_labels, candidates,
                               workspace, gpu.stream());
  params.sampled = candidates.sampled;
  params.sampled_count = candidates.sampled_count;
  params.true_count = candidates.true_count;
}

void queue(const SampledLossParams& params, CudaCall& gpu) {
  const cuda::Workspace workspace = gpu.workspace(cuda::workspace_bytes(params, gpu.stream().device));
  const WithoutGil released;  // safe: whatever is borrowed or made is held by the caller
  cuda::nce_loss(params, workspace, gpu.stream());
}

}  // namespace

py::object cuda_nce_loss(py::handle inputs, const LossArguments& args, py::handle device) {
  const cuda::Stream stream = stream_of(device);
  const Place place = place_on(stream, "inputs");
  const Array x = borrow_inputs(inputs, place);
  LossCall call(x, args, place);
  CudaCall gpu(device, stream);
  SampledLossParams& params = call.params;
  Array labels = borrow_or_convert(args.labels, "labels", place);
  require_classes(labels, params.batch, params.num_true);
  params.labels = gpu.ids(std::move(labels), params.num_true);
  if (!args.grad_loss.is_none()) {
    const std::int64_t shape[] = {params.batch};
    params.grad_loss = gpu.floats(borrow_or_convert(args.grad_loss, "grad_loss", place), shape, "[B]");
  }
  const bool draws = args.sampled_values.is_none();
  if (!draws) use_given_candidates(args.sampled_values, place, params, gpu);
  cuda::workspace_bytes(params, stream.device);  // validates, before anything large is allocated
  if (draws) draw_candidates(call.sampling(), args.calls, params, gpu);

  const CudaCall::Output loss = gpu.empty(DType::kFloat32, {params.batch});
  params.loss = loss.data;
  call.set_grad_dtypes();
  py::object grad_inputs = py::none(), row_ids = py::none(), grad_weights = py::none(), grad_biases = py::none();
  const auto output = [](py::object& result, const CudaCall::Output& made) {
    result = made.array;
    return made.data;
  };
  const std::int64_t rows = call.entries();
  if (args.grad_inputs) {
    params.grad_inputs = output(grad_inputs, gpu.empty(*params.grad_inputs_dtype, {params.batch, params.dim}));
  }
  if (args.grad_weights) {
    params.grad_weights = output(grad_weights, gpu.empty(*params.grad_weights_dtype, {rows, params.dim}));
  }
  if (args.grad_biases) params.grad_biases = output(grad_biases, gpu.empty(*params.grad_biases_dtype, {rows}));
  if (args.row_gradients()) {
    params.row_ids = static_cast<std::int64_t*>(output(row_ids, gpu.empty("int64", {rows})));
    params.row_count = gpu.temporary<std::int64_t>("int64", 1);
  }
  queue(params, gpu);
  py::object used = py::none();
  if (args.row_gradients() && !args.pad_rows) {
    used = py::int_([&] {
      const WithoutGil released;
      return rows > 0 ? cuda::read(params.row_count, stream) : 0;
    }());
  }
  gpu.finish();
  return py::make_tuple(loss.array, grad_inputs, row_ids, grad_weights, grad_biases, used);
}

}  // namespace fastnce::bindings
