// The sampled loss and its gradients for JAX.
#include <cstddef>
#include <string_view>

#include "bindings/jax_device.h"
#include "bindings/jax_ffi.h"
#include "bindings/row_padding.h"
#include "fastnce/config.h"
#include "fastnce/sampled_loss.h"

namespace fastnce::bindings::jax {

namespace {

// Operands, results and options, in the order in which they come. Row gradients have room for B T + S rows.
struct LossCall {
  explicit LossCall(const xla::CallFrame& frame) : LossCall(Call(frame, 8, 5)) {}
  LossCall(const LossCall&) = delete;

  // How many rows of gradients were asked for: none, or B T + S.
  std::size_t rows() const {
    return grad_weights.elements() + grad_biases.elements() > 0 ? labels.elements() + sampled.elements() : 0;
  }

  // After everything else is validated.
  void want_rows() {
    params.grad_weights = grad_weights.wanted();
    params.grad_biases = grad_biases.wanted();
  }

  Buffer weights;        // [V, D]
  Buffer biases;         // [V]
  Buffer labels;         // [B, T]
  Buffer inputs;         // [B, D]
  Buffer sampled;        // classes [S]
  Buffer true_count;     // [B, T]
  Buffer sampled_count;  // [S]
  Buffer grad_loss;      // [B], or [0] for 1
  Buffer loss;           // [B]
  Buffer grad_inputs;    // [B, D]
  Buffer row_ids;        // [B T + S]
  Buffer grad_weights;   // [B T + S, D]
  Buffer grad_biases;    // [B T + S]
  SampledLossParams params;

 private:
  explicit LossCall(const Call& call)
      : weights(call.operand(0)),
        biases(call.operand(1)),
        labels(call.operand(2)),
        inputs(call.operand(3)),
        sampled(call.operand(4)),
        true_count(call.operand(5)),
        sampled_count(call.operand(6)),
        grad_loss(call.operand(7)),
        loss(call.result(0)),
        grad_inputs(call.result(1)),
        row_ids(call.result(2)),
        grad_weights(call.result(3)),
        grad_biases(call.result(4)),
        weights_{weights.data(), weights.dimension(0), weights.dimension(1)},
        biases_{biases.data(), biases.dimension(0), 1} {
    const std::string_view precision = call.text("precision");  // empty: the default when the call runs
    params.inputs_dtype = dtype_of(inputs);
    params.dtype = *params.inputs_dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
    params.weights_dtype = params.grad_weights_dtype = dtype_of(weights);
    params.biases_dtype = params.grad_biases_dtype = dtype_of(biases);
    params.grad_inputs_dtype = params.inputs_dtype;
    params.precision = precision.empty() ? default_precision() : precision_from(precision, "precision");
    params.batch = inputs.dimension(0);
    params.dim = inputs.dimension(1);
    params.num_classes = call.integer("num_classes");
    params.num_true = labels.dimension(1);
    params.num_sampled = sampled.dimension(0);
    params.remove_accidental_hits = call.flag("remove_accidental_hits");
    params.weights.shards = {&weights_, 1};
    params.biases.shards = {&biases_, 1};
    params.inputs = inputs.data();
    params.inputs_stride = params.dim;
    params.true_count = true_count.data();
    params.sampled_count = sampled_count.data();
    params.grad_loss = grad_loss.wanted();
    params.loss = loss.wanted();
    params.grad_inputs = grad_inputs.wanted();
    const auto batch = static_cast<std::size_t>(params.batch), dim = static_cast<std::size_t>(params.dim);
    const std::size_t entries = labels.elements() + sampled.elements();
    require_extent(true_count, "true_expected_count", labels.elements(), params.dtype);
    require_extent(sampled_count, "sampled_expected_count", sampled.elements(), params.dtype);
    require_extent_or_nothing(grad_loss, "grad_loss", batch, params.dtype);
    require_extent_or_nothing(loss, "the loss", batch, params.dtype);
    require_extent_or_nothing(grad_inputs, "the gradient of inputs", batch * dim, *params.inputs_dtype);
    require_extent_or_nothing(grad_weights, "the gradient of weights", entries * dim, *params.weights_dtype);
    require_extent_or_nothing(grad_biases, "the gradient of biases", entries, *params.biases_dtype);
    if (labels.dimension(0) != params.batch || weights.dimension(1) != params.dim) {
      throw InvalidValue("labels or weights do not fit inputs");
    }
    if (row_ids.bytes() != rows() * sizeof(std::int64_t)) {
      throw InvalidValue(concat("row ids have ", row_ids.bytes(), " bytes: expected ", rows(),
                                " 64-bit words, one for each row of gradients"));
    }
  }

  Shard weights_, biases_;
};

void compute_on_cpu(const xla::CallFrame& frame) {
  LossCall call(frame);
  SampledLossParams& params = call.params;
  const HostIds labels(call.labels), sampled(call.sampled);
  params.labels = labels.all().data();
  params.sampled = sampled.all().data();
  const auto rows = static_cast<std::int64_t>(call.rows());
  RowPlan plan;
  if (rows > 0) {
    validate(params);
    plan = plan_rows(labels.all(), sampled.all());
    pad_ids(plan, {id_words(call.row_ids), static_cast<std::size_t>(rows)});
    for (const Buffer& gradients : {call.grad_weights, call.grad_biases}) {
      pad_gradients(plan, rows, {static_cast<std::byte*>(gradients.data()), gradients.bytes()});
    }
    params.rows = &plan;
    call.want_rows();
  }
  nce_loss(params);
}

void queue_loss_on_cuda(const xla::CallFrame& frame) {
  LossCall call(frame);
  DeviceCall gpu(frame);
  SampledLossParams& params = call.params;
  params.labels = gpu.ids(call.labels);
  params.sampled = gpu.ids(call.sampled);
  if (call.rows() > 0) {
    params.row_ids = id_words(call.row_ids);
    params.row_count = gpu.temporary<std::int64_t>(1);
    call.want_rows();
  }
  cuda::nce_loss(params, gpu.workspace(cuda::workspace_bytes(params, gpu.stream().device)), gpu.stream());
}

}  // namespace

xla::Handler* const kLossOnCpu = kOnCpu<compute_on_cpu>;
xla::Handler* const kLossOnCuda = kOnCuda<queue_loss_on_cuda>;

}  // namespace fastnce::bindings::jax
