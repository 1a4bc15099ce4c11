// The sampled loss and its gradients for JAX.
#include <cstddef>
#include <string_view>

#include "bindings/jax_ffi.h"
#include "bindings/row_padding.h"
#include "fastnce/config.h"
#include "fastnce/sampled_loss.h"

namespace fastnce::bindings::jax {

namespace {

// Operands, results and options, in the order in which they come. Row gradients have room for B T + S rows.
struct LossCall {
  LossCall(Buffer weights, Buffer biases, Buffer labels, Buffer inputs, Buffer sampled, Buffer true_count,
           Buffer sampled_count, Buffer grad_loss, Result loss, Result grad_inputs, Result row_ids, Result grad_weights,
           Result grad_biases, std::int64_t num_classes, bool remove_accidental_hits, std::string_view precision)
      : labels(labels),
        sampled(sampled),
        row_ids(*row_ids),
        grad_weights(*grad_weights),
        grad_biases(*grad_biases),
        weights_{weights.untyped_data(), weights.dimensions()[0], weights.dimensions()[1]},
        biases_{biases.untyped_data(), biases.dimensions()[0], 1} {
    params.inputs_dtype = dtype_of(inputs);
    params.dtype = *params.inputs_dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
    params.weights_dtype = params.grad_weights_dtype = dtype_of(weights);
    params.biases_dtype = params.grad_biases_dtype = dtype_of(biases);
    params.grad_inputs_dtype = params.inputs_dtype;
    params.precision = precision.empty() ? default_precision() : precision_from(precision, "precision");
    params.batch = inputs.dimensions()[0];
    params.dim = inputs.dimensions()[1];
    params.num_classes = num_classes;
    params.num_true = labels.dimensions()[1];
    params.num_sampled = sampled.dimensions()[0];
    params.remove_accidental_hits = remove_accidental_hits;
    params.weights.shards = {&weights_, 1};
    params.biases.shards = {&biases_, 1};
    params.inputs = inputs.untyped_data();
    params.inputs_stride = params.dim;
    params.true_count = true_count.untyped_data();
    params.sampled_count = sampled_count.untyped_data();
    params.grad_loss = wanted(grad_loss);
    params.loss = wanted(*loss);
    params.grad_inputs = wanted(*grad_inputs);
    const auto batch = static_cast<std::size_t>(params.batch), dim = static_cast<std::size_t>(params.dim);
    const std::size_t rows = labels.element_count() + sampled.element_count();
    require_extent(true_count, "true_expected_count", labels.element_count(), params.dtype);
    require_extent(sampled_count, "sampled_expected_count", sampled.element_count(), params.dtype);
    require_extent_or_nothing(grad_loss, "grad_loss", batch, params.dtype);
    require_extent_or_nothing(*loss, "the loss", batch, params.dtype);
    require_extent_or_nothing(*grad_inputs, "the gradient of inputs", batch * dim, *params.inputs_dtype);
    require_extent_or_nothing(*grad_weights, "the gradient of weights", rows * dim, *params.weights_dtype);
    require_extent_or_nothing(*grad_biases, "the gradient of biases", rows, *params.biases_dtype);
    if (labels.dimensions()[0] != params.batch || weights.dimensions()[1] != params.dim ||
        (row_ids->element_count() != 0 && row_ids->size_bytes() != rows * sizeof(std::int64_t))) {
      throw InvalidValue("labels, weights or row ids do not fit inputs");
    }
  }
  LossCall(const LossCall&) = delete;

  // After everything else is validated.
  void want_rows() {
    params.grad_weights = wanted(grad_weights);
    params.grad_biases = wanted(grad_biases);
  }

  Buffer labels, sampled, row_ids, grad_weights, grad_biases;
  SampledLossParams params;

 private:
  Shard weights_, biases_;
};

void compute_on_cpu(LossCall& call) {
  SampledLossParams& params = call.params;
  const HostIds labels(call.labels), sampled(call.sampled);
  params.labels = labels.all().data();
  params.sampled = sampled.all().data();
  const auto rows = static_cast<std::int64_t>(call.grad_biases.element_count());
  RowPlan plan;
  if (rows > 0) {
    validate(params);
    plan = plan_rows(labels.all(), sampled.all());
    pad_ids(plan, {id_words(call.row_ids), static_cast<std::size_t>(rows)});
    for (const Buffer& gradients : {call.grad_weights, call.grad_biases}) {
      pad_gradients(plan, rows, {static_cast<std::byte*>(gradients.untyped_data()), gradients.size_bytes()});
    }
    params.rows = &plan;
    call.want_rows();
  }
  nce_loss(params);
}

void queue_on_cuda(LossCall& call, DeviceCall& gpu) {
  SampledLossParams& params = call.params;
  params.labels = gpu.ids(call.labels);
  params.sampled = gpu.ids(call.sampled);
  if (call.grad_biases.element_count() > 0) {
    params.row_ids = id_words(call.row_ids);
    params.row_count = gpu.temporary<std::int64_t>(1);
    call.want_rows();
  }
  cuda::nce_loss(params, gpu.workspace(cuda::workspace_bytes(params, gpu.stream().device)), gpu.stream());
}

template <class Bind>
auto bound(Bind binding) {
  return std::move(binding)
      .template Arg<Buffer>()  // weights [V, D]
      .template Arg<Buffer>()  // biases [V]
      .template Arg<Buffer>()  // labels [B, T]
      .template Arg<Buffer>()  // inputs [B, D]
      .template Arg<Buffer>()  // sampled classes [S]
      .template Arg<Buffer>()  // true counts [B, T]
      .template Arg<Buffer>()  // sampled counts [S]
      .template Arg<Buffer>()  // upstream factors [B], or [0] for 1
      .template Ret<Buffer>()  // loss [B]
      .template Ret<Buffer>()  // dX [B, D]
      .template Ret<Buffer>()  // row ids [B T + S]
      .template Ret<Buffer>()  // dW [B T + S, D]
      .template Ret<Buffer>()  // dc [B T + S]
      .template Attr<std::int64_t>("num_classes")
      .template Attr<bool>("remove_accidental_hits")
      .template Attr<std::string_view>("precision");  // empty: the default when the call runs
}

XLA_FFI_DEFINE_HANDLER(
    on_cpu,
    [](auto... operands) {
      return reporting_errors([&] {
        LossCall call(operands...);
        compute_on_cpu(call);
      });
    },
    bound(ffi::Ffi::Bind()));

XLA_FFI_DEFINE_HANDLER(
    on_cuda,
    [](void* stream, std::int32_t device, ffi::ScratchAllocator scratch, auto... operands) {
      return reporting_errors([&] {
        LossCall call(operands...);
        DeviceCall gpu(stream, device, scratch);
        queue_on_cuda(call, gpu);
      });
    },
    bound(ffi::Ffi::Bind().Ctx<ffi::PlatformStream<void*>>().Ctx<ffi::DeviceOrdinal>().Ctx<ffi::ScratchAllocator>()));

}  // namespace

XLA_FFI_Handler* const kLossOnCpu = on_cpu;
XLA_FFI_Handler* const kLossOnCuda = on_cuda;

}  // namespace fastnce::bindings::jax
