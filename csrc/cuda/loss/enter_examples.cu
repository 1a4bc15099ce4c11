// Kernels per example and per sampled class before the GEMMs, bound by the bytes of the rows that they gather. They are
// compiled for each element type, read 16 bytes at a time, and start several loads before they use the first.
// Arithmetic is float32 throughout, as on the CPU.
#include "cuda/loss/examples.h"

#include "cuda/loss/row_vectors.cuh"
#include "cuda/runtime/ids.cuh"
#include "cuda/runtime/warp.cuh"
#include "math/loss/logistic.h"

namespace fastnce::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kBlocks = 3;  // at least, of a multiprocessor

FASTNCE_DEVICE std::int64_t warp_index() { return block_x() * kWarps + thread_index() / kWarp; }
FASTNCE_DEVICE int lane_index() { return thread_index() % kWarp; }

FASTNCE_DEVICE float not_a_number() { return __builtin_nanf(""); }

// A warp goes through the vectors of a row that can be loaded, each thread kAtOnce at a time, and then through the
// others up to `all`.
template <int kAtOnce, class Row, class Use>
FASTNCE_DEVICE void for_each_vector(const Row& row, int all, const Use& use) {
  const int whole = row.whole();
  for (int first = lane_index(); first < whole; first += kAtOnce * kWarp) {
    typename Row::Vector held[kAtOnce];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      if (first + k * kWarp < whole) held[k] = row.load(first + k * kWarp);
    }
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      if (first + k * kWarp < whole) use(first + k * kWarp, held[k]);
    }
  }
  // Each vector by the same thread as where it can be loaded, so that sums do not depend on addresses.
  for (int v = whole + ((lane_index() - whole) & (kWarp - 1)); v < all; v += kWarp) use(v, row.gather(v));
}

template <DType kWeights>
FASTNCE_KERNEL(kThreads, kBlocks)
enter_samples_kernel(FASTNCE_ARGUMENTS EnterSamplesArguments args) {
  constexpr int kCount = 16 / element_bytes(kWeights);
  using Vectors = RowVectors<kWeights, kCount>;
  const std::int64_t s = warp_index();
  if (s >= args.rows) return;
  const bool exists = s < args.num_sampled;
  const bool leads = exists && lane_index() == 0;
  const std::int64_t id = !exists ? -1 : args.sampled != nullptr ? args.sampled[s] : args.first_class + s;
  const float q = leads ? args.q.load(s) : 0.0f;
  const bool valid = is_valid_id(id, args.num_classes);
  const std::uint32_t bias_bits = leads ? load_bias(args.biases, valid ? id : 0) : 0;
  const Vectors from{args.weights.row(valid ? id : 0).data, valid ? args.dim : 0};
  const std::int64_t to = row_offset(s, args.planes.pitch);
  for_each_vector<4>(from, static_cast<int>(args.planes.pitch / kCount), [&](int v, const Vectors::Vector& vector) {
    write_operand(vector, to + std::int64_t{v} * kCount, args.planes);
  });
  if (!leads) return;
  if (!is_valid_id(id, args.num_classes)) record_fault(args.faults, IdArgument::kSampled, s, id, 0, args.num_classes);
  if (args.offset != nullptr)
    args.offset[s] = valid ? widened(bias_bits, args.biases.dtype) - args.q.log_of(q) : not_a_number();
}

// The inputs of an example beside the row of a true class.
template <DType kInputs, DType kWeights, int kCount>
struct TwoRows {
  RowVectors<kInputs, kCount> x;
  RowVectors<kWeights, kCount> w;
  struct Vector {
    Elements<kInputs, kCount> x;
    Elements<kWeights, kCount> w;
  };
  FASTNCE_DEVICE int whole() const { return w.is_aligned() ? x.whole() : 0; }
  FASTNCE_DEVICE Vector load(int v) const { return {x.load(v), w.load(v)}; }
  FASTNCE_DEVICE Vector gather(int v) const { return {x.gather(v), w.gather(v)}; }
};

// An example's labels that are not padding, counted by a warp.
FASTNCE_DEVICE int count_classes(const DeviceTargets& targets, std::int64_t b) {
  const std::int64_t count = targets.count(b);
  if (!targets.padding.given) return static_cast<int>(count);
  const std::int64_t* const ids = targets.ids + targets.begin(b);
  int own = 0;
#pragma unroll 1
  for (std::int64_t t = lane_index(); t < count; t += kWarp) own += is_padding(targets.padding, ids[t]) ? 0 : 1;
  return sum_over_warp(own);
}

// Those of all parts of a loss; none where the example's list is not known.
FASTNCE_DEVICE int classes_of_all_parts(const EnterExamplesArguments& args, std::int64_t b) {
  return args.targets.lists.is_broken(b) ? 0 : static_cast<int>(args.label_count[b]);
}

// What a warp works on.
struct Work {
  std::int64_t example;  // from `rows` on: none
  std::int64_t entry;    // meaningless unless has_label
  bool has_label;
  bool packs;  // the example's inputs
};

// Lists: first a warp for each row, with the first label of the example if there is one, then one for each label, which
// has nothing to do if that was the first.
FASTNCE_DEVICE Work work_of_lists(const EnterExamplesArguments& args, std::int64_t warp) {
  const DeviceTargets& targets = args.targets;
  if (warp < args.rows) {
    const bool has_label = warp < args.batch && targets.count(warp) > 0;
    return {warp, has_label ? targets.begin(warp) : 0, has_label, true};
  }
  const std::int64_t entry = warp - args.rows;
  if (entry >= args.num_labels) return {args.rows, 0, false, false};
  const std::int64_t example = targets.example_of(entry);
  if (example == DeviceTargets::kNone && lane_index() == 0) args.true_grad[entry] = 0.0f;
  const bool is_left = example != DeviceTargets::kNone && entry != targets.begin(example);
  return {is_left ? example : args.rows, entry, is_left, false};
}

// T for each example: a warp for each label, then one for each row that fills the last tile.
FASTNCE_DEVICE Work work_of(const EnterExamplesArguments& args, std::int64_t warp) {
  if (args.targets.are_lists()) return work_of_lists(args, warp);
  const std::int64_t num_true = args.targets.per_example;
  const std::int64_t warps = num_true > 1 ? num_true : 1;  // of an example
  const std::int64_t beyond = warp - args.batch * warps;
  if (beyond >= 0) return {args.batch + beyond, 0, false, true};
  const std::int64_t b = warps > 1 ? warp / warps : warp;
  return {b, warp, num_true > 0, warp == b * warps};
}

// A warp per label: the dot product of its row and the example's. One warp of each example also packs its inputs.
// Registers suffice for one more block where both types are one that converts easily.
template <DType kInputs, DType kWeights>
FASTNCE_KERNEL(kThreads, kInputs == kWeights && kInputs != DType::kFloat16 ? kBlocks + 1 : kBlocks)
enter_examples_kernel(FASTNCE_ARGUMENTS EnterExamplesArguments args) {
  constexpr int kCount = 16 / std::min(element_bytes(kInputs), element_bytes(kWeights));
  using Rows = TwoRows<kInputs, kWeights, kCount>;
  const DeviceTargets& targets = args.targets;
  const auto [b, at, has_label, packs] = work_of(args, warp_index());
  if (b >= args.rows) return;
  const bool exists = b < args.batch;
  const bool leads = has_label && lane_index() == 0;
  const std::int64_t id = has_label ? targets.ids[at] : -1;
  const float q = leads ? args.q.load(at) : 0.0f;
  const float label_weight = leads && args.label_weights != nullptr ? args.label_weights[at] : 1.0f;
  const float factor = leads ? args.grad_loss.of(b) : 1.0f;
  const bool in_parts = args.label_count != nullptr;
  const int classes = in_parts ? exists ? classes_of_all_parts(args, b) : 0 : has_label ? count_classes(targets, b) : 0;
  const bool takes_part = exists && (args.takes_part == nullptr || classes > 0);
  const bool is_class = has_label && (!in_parts || takes_part) && !is_padding(targets.padding, id);
  if (exists && packs && lane_index() == 0 && args.takes_part != nullptr) args.takes_part[b] = takes_part;
  const bool in_range = is_class && is_valid_id(id, args.num_classes);
  const std::int64_t class_id = in_range ? id : 0;  // class 0 in place of none: its product is not used
  const std::uint32_t bias_bits = leads ? load_bias(args.biases, class_id) : 0;
  const std::int64_t dim = (packs ? takes_part : is_class) ? args.dim : 0;
  const Rows rows{{args.inputs[b].data, dim}, {args.weights.row(class_id).data, dim}};
  const std::int64_t to = row_offset(b, args.planes.pitch);
  float product = 0.0f;
  for_each_vector<2>(rows, static_cast<int>(args.planes.pitch / kCount), [&](int v, const Rows::Vector& vector) {
    if (packs) write_operand(vector.x, to + std::int64_t{v} * kCount, args.planes);
#pragma unroll
    for (int k = 0; k < kCount; ++k) product += vector.x[k] * vector.w[k];
  });
  product = sum_over_warp(product);
  if (!leads) return;
  float* const result = args.true_logit != nullptr ? args.true_logit : args.true_loss;
  if (!is_class) {
    result[at] = 0.0f;
    args.true_grad[at] = 0.0f;
    return;
  }
  if (!in_range) {
    record_fault(args.faults, targets.are_lists() ? IdArgument::kLabelValues : IdArgument::kLabels, at, id,
                 targets.are_lists() ? 0 : targets.per_example, args.num_classes, targets.padding);
  }
  const float log_q = args.q.log_of(q);
  const bool valid = in_range && log_q == log_q;
  const float u = valid ? product * args.input_scale + widened(bias_bits, args.biases.dtype) - log_q : not_a_number();
  if (args.true_logit != nullptr) {
    result[at] = u;
    args.true_grad[at] = valid ? label_weight : not_a_number();
    return;
  }
  const float target = args.weights_are_targets ? label_weight : args.mean ? 1.0f / static_cast<float>(classes) : 1.0f;
  const auto term = math::positive_term<float>(u, target);
  const float weight = args.weights_are_targets ? 1.0f : args.positive_weight.of(b) * label_weight;
  result[at] = term.loss * weight;
  args.true_grad[at] = valid ? term.slope * weight * factor : 0.0f;
}

}  // namespace

void queue_enter_samples(const EnterSamplesArguments& args, const Stream& stream) {
  with_type(args.weights.dtype, [&]<DType kWeights> {
    launch(enter_samples_kernel<kWeights>, {.x = ceiling(args.rows, kWarps)}, kThreads, 0, stream, args);
  });
}

void queue_enter_examples(const EnterExamplesArguments& args, const Stream& stream) {
  const DeviceTargets& targets = args.targets;
  const std::int64_t warps =
      args.rows + (targets.are_lists() ? args.num_labels : std::max<std::int64_t>(args.num_labels - args.batch, 0));
  with_type(args.inputs.dtype, [&]<DType kInputs> {
    with_type(args.weights.dtype, [&]<DType kWeights> {
      launch(enter_examples_kernel<kInputs, kWeights>, {.x = ceiling(warps, kWarps)}, kThreads, 0, stream, args);
    });
  });
}

}  // namespace fastnce::cuda
