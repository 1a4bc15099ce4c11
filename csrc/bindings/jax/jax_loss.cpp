// The losses and their gradients for JAX.
#include <cstddef>

#include "bindings/arrays/row_padding.h"
#include "bindings/jax/jax_device.h"
#include "bindings/jax/jax_request.h"
#include "fastnce/evaluate.h"

namespace fastnce::bindings::jax {

namespace {

// A call of a loss: a request and its results. Row gradients have room for R rows, one for each label and each
// candidate; over all classes, gradients of tables are dense, of V rows without ids.
struct LossCall : RequestCall {
  explicit LossCall(const xla::CallFrame& frame) : LossCall(Call(frame, kOperands, 5)) {}

  // How many row ids were asked for: none, or R.
  std::size_t rows() const { return request.wanted.rows() && !all_classes ? entries : 0; }

  const bool all_classes;
  const std::size_t entries;  // R or V
  Buffer loss;                // [B]
  Buffer grad_inputs;         // [B, D]
  Buffer row_ids;             // [R]
  Buffer grad_weights;        // [R, D] or [V, D]
  Buffer grad_biases;         // [R] or [V]
  LossOutputs outputs;

 private:
  explicit LossCall(const Call& call)
      : RequestCall(call),
        all_classes(call.has("all_classes") && call.flag("all_classes")),
        entries(all_classes ? static_cast<std::size_t>(request.num_classes) : labels.elements() + sampled.elements()),
        loss(call.result(0)),
        grad_inputs(call.result(1)),
        row_ids(call.result(2)),
        grad_weights(call.result(3)),
        grad_biases(call.result(4)) {
    request.wanted = {.loss = loss.elements() > 0,
                      .grad_inputs = grad_inputs.elements() > 0,
                      .grad_weights = grad_weights.elements() > 0,
                      .grad_biases = grad_biases.elements() > 0};
    // Rows without columns have ids none the less.
    if (request.dim == 0 && row_ids.elements() > 0) request.wanted.grad_weights = true;
    outputs.loss = loss.wanted();
    outputs.grad_inputs = grad_inputs.wanted();
    outputs.grad_weights = grad_weights.data();
    outputs.grad_biases = grad_biases.wanted();
    outputs.grad_inputs_dtype = request.inputs_dtype;
    outputs.grad_weights_dtype = request.weights_dtype;
    outputs.grad_biases_dtype = request.biases_dtype;
    const auto dim = static_cast<std::size_t>(request.dim);
    require_extent_or_nothing(loss, "the loss", batch(), request.dtype);
    require_extent_or_nothing(grad_inputs, "the gradient of inputs", batch() * dim, *request.inputs_dtype);
    require_extent_or_nothing(grad_weights, "the gradient of weights", entries * dim, *request.weights_dtype);
    require_extent_or_nothing(grad_biases, "the gradient of biases", entries, *request.biases_dtype);
    if (row_ids.bytes() != rows() * sizeof(std::int64_t)) {
      throw InvalidValue(concat("row ids have ", row_ids.bytes(), " bytes: expected ", rows(),
                                " 64-bit words, one for each row of gradients"));
    }
  }
};

void compute_on_cpu(const xla::CallFrame& frame) {
  LossCall call(frame);
  const HostRequest host(call);
  if (call.all_classes) return full_loss(call.request, call.outputs);
  const LossPlan planned = plan(call.request);
  if (const auto rows = static_cast<std::int64_t>(call.rows()); rows > 0) {
    const std::span<const std::int64_t> ids = planned.row_ids();
    pad_ids(ids, {id_words(call.row_ids), static_cast<std::size_t>(rows)});
    for (const Buffer& gradients : {call.grad_weights, call.grad_biases}) {
      pad_gradients(ids.size(), rows, {static_cast<std::byte*>(gradients.data()), gradients.bytes()});
    }
  }
  run(planned, call.outputs);
}

void queue_loss_on_cuda(const xla::CallFrame& frame) {
  LossCall call(frame);
  if (call.all_classes) throw InvalidValue("a loss over all classes: expected arrays on the CPU");
  DeviceCall gpu(frame);
  call.request.targets.ids = gpu.ids(call.labels);
  call.request.targets.offsets = gpu.ids(call.label_offsets);
  call.request.negatives.ids = gpu.ids(call.sampled);
  if (call.excludes()) {
    call.request.exclude = {gpu.ids(call.exclude), gpu.ids(call.exclude_offsets), call.exclude.dimension(0)};
  }
  call.request.class_keys = gpu.ids(call.class_keys);
  if (call.rows() > 0) {
    call.outputs.row_ids = id_words(call.row_ids);
    call.outputs.row_count = gpu.temporary<std::int64_t>(1);
  }
  const cuda::LossPlan planned = cuda::plan(call.request, gpu.stream().device);
  cuda::run(planned, call.outputs, gpu.workspace(planned.workspace_bytes), gpu.stream());
}

}  // namespace

xla::Handler* const kLossOnCpu = kOnCpu<compute_on_cpu>;
xla::Handler* const kLossOnCuda = kOnCuda<queue_loss_on_cuda>;

}  // namespace fastnce::bindings::jax
