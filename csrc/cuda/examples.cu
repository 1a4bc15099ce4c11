// A warp per example or sampled row: gathers and dot products, bound by the bytes of the rows. Arithmetic is float32
// throughout, as on the CPU.
#include "cuda/examples.h"

#include "cuda/ids.cuh"
#include "cuda/warp.cuh"
#include "math/expected_count.h"
#include "math/logistic.h"

namespace fastnce::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;

FASTNCE_DEVICE std::int64_t warp_index() { return block_x() * kWarps + thread_index() / kWarp; }
FASTNCE_DEVICE int lane_index() { return thread_index() % kWarp; }

FASTNCE_DEVICE float not_a_number() { return __builtin_nanf(""); }

FASTNCE_KERNEL(kThreads, 2) enter_samples_kernel(FASTNCE_ARGUMENTS EnterSamplesArguments args) {
  const std::int64_t s = warp_index();
  if (s >= args.rows) return;
  const bool exists = s < args.num_sampled;
  const std::int64_t id = exists ? args.sampled[s] : -1;
  const bool valid = is_valid_id(id, args.num_classes);
  const Row row = valid ? args.weights.row(id) : Row{};
  write_operand_row(row, valid, args.dim, s, args.planes);
  if (lane_index() != 0 || !exists) return;
  check_id(args.faults, IdArgument::kSampled, s, id, 1, args.num_classes);
  const float count = args.sampled_count[s];
  args.offset[s] = valid && math::is_expected_count(count) ? args.biases.row(id)[0] - logf(count) : not_a_number();
}

// Each lane sums every 32nd product; float32 as everywhere in this file.
FASTNCE_DEVICE float dot(const Row& a, const Row& b, std::int64_t n) {
  float sum = 0.0f;
  for (std::int64_t i = lane_index(); i < n; i += kWarp) sum += a[i] * b[i];
  return sum_over_warp(sum);
}

FASTNCE_KERNEL(kThreads, 2) enter_examples_kernel(FASTNCE_ARGUMENTS EnterExamplesArguments args) {
  const std::int64_t b = warp_index();
  if (b >= args.rows) return;
  const bool exists = b < args.batch;
  const Row x = exists ? args.inputs[b] : Row{};
  write_operand_row(x, exists, args.dim, b, args.planes);
  if (!exists) return;
  const float target = args.num_true > 0 ? 1.0f / static_cast<float>(args.num_true) : 0.0f;
  const float factor = args.grad_loss != nullptr ? args.grad_loss[b] : 1.0f;
  float loss = 0.0f;
  for (std::int64_t t = 0; t < args.num_true; ++t) {
    const std::int64_t at = b * args.num_true + t;
    const std::int64_t id = args.labels[at];
    const float count = args.true_count[at];
    const bool valid = is_valid_id(id, args.num_classes) && math::is_expected_count(count);
    const float product = valid ? dot(x, args.weights.row(id), args.dim) : 0.0f;
    if (lane_index() != 0) continue;
    check_id(args.faults, IdArgument::kLabels, at, id, args.num_true, args.num_classes);
    const float u = valid ? product + args.biases.row(id)[0] - logf(count) : not_a_number();
    const auto logistic = math::logistic<float>(u);
    // softplus(u) - u / T and sigmoid(u) - 1 / T, in the order that loses nothing to cancellation when T = 1.
    const float positive = u < 0.0f ? 0.0f : u;
    const float slope = u > 0.0f ? (1.0f - target) - logistic.complement : logistic.sigmoid - target;
    loss += (positive - u * target) + logistic.log1p_e;
    args.true_grad[at] = valid ? slope * factor : 0.0f;
  }
  if (lane_index() == 0) args.true_loss[b] = loss;
}

FASTNCE_KERNEL(kThreads, 2) finish_examples_kernel(FASTNCE_ARGUMENTS FinishExamplesArguments args) {
  const std::int64_t in_chunk = warp_index();
  if (in_chunk >= args.examples) return;
  const std::int64_t b = args.first + in_chunk;
  const int lane = lane_index();
  if (args.loss != nullptr && lane == 0) {
    double sum = args.true_loss[b];  // float64, so that the number of tiles does not show in the result
    for (std::int64_t part = 0; part < args.loss_part_count; ++part) {
      sum += args.loss_parts[part * args.loss_pitch + in_chunk];
    }
    args.loss[b] = static_cast<float>(sum);
  }
  if (args.grad_inputs == nullptr) return;
  for (std::int64_t d = lane; d < args.dim; d += kWarp) {
    float sum = 0.0f;
    for (std::int64_t part = 0; part < args.input_part_count; ++part) {
      sum += args.input_parts[part * args.input_part + in_chunk * args.input_pitch + d];
    }
    for (std::int64_t t = 0; t < args.num_true; ++t) {
      const std::int64_t at = b * args.num_true + t;
      const std::int64_t id = args.labels[at];
      if (is_valid_id(id, args.num_classes)) sum += args.true_grad[at] * args.weights.row(id)[d];
    }
    store_as(args.grad_inputs, args.grad_inputs_dtype, b * args.dim + d, sum);
  }
}

FASTNCE_KERNEL(kThreads, 2) finish_samples_kernel(FASTNCE_ARGUMENTS FinishSamplesArguments args) {
  const std::int64_t s = block_x() * kThreads + thread_index();
  if (s >= args.num_sampled) return;
  float sum = args.accumulate ? args.bias_sums[s] : 0.0f;
  for (std::int64_t part = 0; part < args.bias_part_count; ++part) sum += args.bias_parts[part * args.bias_pitch + s];
  args.bias_sums[s] = sum;
}

}  // namespace

void queue_enter_samples(const EnterSamplesArguments& args, const Stream& stream) {
  launch(enter_samples_kernel, {.x = ceiling(args.rows, kWarps)}, kThreads, 0, stream, args);
}

void queue_enter_examples(const EnterExamplesArguments& args, const Stream& stream) {
  launch(enter_examples_kernel, {.x = ceiling(args.rows, kWarps)}, kThreads, 0, stream, args);
}

void queue_finish_examples(const FinishExamplesArguments& args, const Stream& stream) {
  launch(finish_examples_kernel, {.x = ceiling(args.examples, kWarps)}, kThreads, 0, stream, args);
}

void queue_finish_samples(const FinishSamplesArguments& args, const Stream& stream) {
  launch(finish_samples_kernel, {.x = ceiling(args.num_sampled, kThreads)}, kThreads, 0, stream, args);
}

}  // namespace fastnce::cuda
