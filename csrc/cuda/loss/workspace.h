// How the workspace of a call is laid out, and what its kernels read of the request.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "cuda/gemm/geometry.h"
#include "cuda/gemm/operands.cuh"
#include "cuda/loss/factor.cuh"
#include "cuda/loss/groups.h"
#include "cuda/loss/log_q.cuh"
#include "cuda/loss/merged_labels.h"
#include "cuda/loss/removed.h"
#include "cuda/rows/row_sort.h"
#include "cuda/rows/rows.h"
#include "cuda/runtime/carver.h"
#include "cuda/sampler/sampler.h"

namespace fastnce::cuda {

// Intermediate results on the device; candidates among them where they are drawn. `x`, `w` and G are planes, padded
// with zeros to whole tiles.
struct Intermediates {
  const std::int64_t* sampled;  // z [G, S]
  std::int64_t* labels;         // y [L], each class once in an example; over all classes alone, as targets
  float* label_targets;         // [L]
  GivenQ sampled_q;             // Q(z) [G, S]
  GivenQ true_q;                // Q(y) [B, T]
  Workspace sampler;
  OperandPlanes x;            // [B, D]
  OperandPlanes w;            // [S, D]
  OperandPlanes grad;         // G of one chunk, [chunk, S]
  float* offset;              // [S]
  AtomicWord* label_fault;    // of the offsets of labels; null: no lists
  AtomicWord* exclude_fault;  // likewise
  std::int32_t* example;      // [L]: of each label; null: no lists
  bool* takes_part;           // [B]; null: all examples do
  SampledKeys keys;           // where samples are removed by key
  AtomicWord* removed;        // [chunk, S / 64]; null: labels are compared, or nothing is removed
  float* true_logit;          // u [B, T]; softmax alone, as are maxima and scales
  float* true_loss;           // [B, T]; logistic alone
  float* true_grad;           // [B, T]
  float* loss_parts;          // [sample tiles, chunk]
  float* maxima;              // [sample tiles, chunk]
  float* scales;              // [sample tiles, chunk]
  float* bias_parts;          // [chunk tiles, S]
  float* bias_sums;           // [S]
  float* input_parts;         // [input splits, chunk, D]
  float* weight_parts;        // [weight splits, S, D]
  float* group_grad;          // G [B, S], in place of the planes, where groups have candidates of their own
};

struct PlannedLoss {
  LossRequest request;
  Geometry geometry;
  Parts parts;
  // The samples are all classes, in order; hits are removed. Gradients of tables are dense: they have a row for each.
  bool all_classes;
};

class LossLayout {
 public:
  LossLayout(const PlannedLoss& plan, const LossOutputs& outputs)
      : r_(plan.request), g_(plan.geometry), parts_(plan.parts), all_classes_(plan.all_classes), out_(outputs) {}

 protected:
  // Candidates of groups: all products in one chunk. Without examples there are no products, and samples are samples.
  bool has_groups() const { return r_.negatives.groups > 1 && r_.batch > 0; }
  std::int64_t served() const {
    return has_groups() ? r_.batch / r_.negatives.groups : std::max<std::int64_t>(r_.batch, 1);
  }
  std::int64_t samples() const { return r_.negatives.total(); }
  std::int64_t chunks() const { return has_groups() ? 1 : g_.chunks; }
  std::int64_t chunk_rows() const { return has_groups() ? r_.batch : g_.chunk_rows; }
  std::int64_t loss_tiles() const { return has_groups() ? ceiling(r_.negatives.count, kGroupTile) : g_.sample_tiles(); }
  bool is_softmax() const { return r_.loss.family == LossFamily::kSoftmax; }
  std::int64_t num_labels() const { return r_.targets.count(r_.batch); }
  const float* label_weights() const {
    return all_classes_ ? m_.label_targets : static_cast<const float*>(r_.targets.weights);
  }
  // Merged labels have 1 / T in their targets. In parts of a softmax the normaliser has it, which multiplies the sum of
  // the labels' weights in all parts by it, too.
  bool merges_means() const {
    return r_.loss.true_target == TrueTarget::kMean && !(is_softmax() && r_.parts.label_count != nullptr);
  }
  // Targets of labels, unless those of merged labels are.
  bool is_mean() const { return r_.loss.true_target == TrueTarget::kMean && !(all_classes_ && merges_means()); }
  Padding padding() const { return {r_.targets.padding.has_value(), r_.targets.padding.value_or(0)}; }
  static Factor factor(const ExampleFactor& of) {
    return {static_cast<const float*>(of.values), static_cast<float>(of.all)};
  }
  static GivenQ given_q(const void* expected_count, const void* log_q) {
    return {static_cast<const float*>(log_q != nullptr ? log_q : expected_count), log_q != nullptr};
  }
  float input_scale() const { return static_cast<float>(1.0 / r_.temperature); }
  Factor grad_loss() const { return {static_cast<const float*>(r_.grad_loss), 1.0f}; }
  Rows inputs() const { return {r_.inputs, r_.inputs_stride, r_.inputs_dtype.value_or(r_.dtype)}; }
  DeviceTable weights() const { return {r_.weights, r_.weights_dtype.value_or(r_.dtype)}; }
  DeviceTable biases() const { return {r_.biases, r_.biases_dtype.value_or(r_.dtype)}; }
  std::int64_t removed_pitch() const { return g_.samples / 64; }

  DeviceTargets given_targets() const {
    return {.ids = r_.targets.ids,
            .padding = padding(),
            .per_example = r_.targets.per_example,
            .lists = {r_.targets.offsets, r_.targets.listed, m_.label_fault},
            .example = m_.example};
  }
  DeviceTargets targets() const {
    DeviceTargets of = given_targets();
    if (all_classes_) {
      of.padding = merged_padding(of.padding);
      of.ids = m_.labels;
    }
    return of;
  }

  // What is drawn where no candidates are given.
  SampleRequest drawn() const {
    return {.sources = {&*r_.negatives.sampler, 1},
            .batch = r_.batch,
            .groups = r_.negatives.groups,
            .true_classes = {r_.targets.ids, static_cast<std::size_t>(num_labels())},
            .true_offsets = r_.targets.offsets};
  }

  DeviceLists exclude() const { return {r_.exclude.offsets, r_.exclude.listed, m_.exclude_fault}; }

  // Whether the logits' kernels compare each sample with each label: no launches, but T comparisons for each logit.
  bool compares_labels() const {
    constexpr std::int64_t kMostCompared = 8;
    return r_.loss.remove_accidental_hits && !r_.targets.offsets && r_.targets.per_example <= kMostCompared &&
           !r_.exclude.offsets && !r_.class_keys && !has_groups();
  }

  // Without memory it measures.
  void take_workspace(Carver& memory) {
    m_ = {};
    rows_ = {};
    if (all_classes_) {
      m_.sampled = memory.take<std::int64_t>(samples());
      m_.labels = memory.take<std::int64_t>(num_labels());
      m_.label_targets = memory.take<float>(num_labels());
    } else if (r_.negatives.sampler) {
      m_.sampled = memory.take<std::int64_t>(samples());
      m_.sampled_q.values = memory.take<float>(samples());
      m_.true_q.values = memory.take<float>(num_labels());
      const std::size_t bytes = sampler_workspace_bytes(drawn());
      m_.sampler = {memory.take<unsigned char>(static_cast<std::int64_t>(bytes)), bytes};
    } else {
      m_.sampled = r_.negatives.ids;
      m_.sampled_q = given_q(r_.negatives.expected_count, r_.negatives.log_q);
      m_.true_q = given_q(r_.targets.expected_count, r_.targets.log_q);
    }
    m_.x.pitch = g_.dim;
    if (!has_groups()) {
      m_.x = take_planes(memory, g_.batch(), g_.dim, parts_.operands, parts_.float16);
      m_.w = take_planes(memory, g_.samples, g_.dim, parts_.operands, parts_.float16);
    }
    m_.offset = memory.take<float>(samples());
    if (r_.targets.offsets != nullptr) {
      m_.label_fault = memory.take<AtomicWord>(1);
      m_.example = memory.take<std::int32_t>(num_labels());
    }
    if (r_.exclude.offsets != nullptr) m_.exclude_fault = memory.take<AtomicWord>(1);
    if (r_.removes_samples() && !compares_labels()) take_keys(memory);
    const bool has_padding = r_.targets.padding && r_.targets.per_example > 0;
    if (has_padding || r_.targets.offsets != nullptr || r_.parts.label_count != nullptr) {
      m_.takes_part = memory.take<bool>(r_.batch);
    }
    (is_softmax() ? m_.true_logit : m_.true_loss) = memory.take<float>(num_labels());
    m_.true_grad = memory.take<float>(num_labels());
    m_.loss_parts = memory.take<float>(loss_tiles() * chunk_rows());
    if (is_softmax()) m_.maxima = memory.take<float>(loss_tiles() * chunk_rows());
    if (!r_.wanted.gradients()) return;
    if (is_softmax()) m_.scales = memory.take<float>(loss_tiles() * chunk_rows());
    has_groups() ? take_group_sums(memory) : take_sums(memory);
    if (r_.wanted.rows()) take_rows(memory);
  }

  const LossRequest& r_;
  const Geometry& g_;
  const Parts parts_;
  const bool all_classes_;
  const LossOutputs& out_;
  Intermediates m_{};
  RowsArguments rows_{};

 private:
  static OperandPlanes take_planes(Carver& memory, std::int64_t rows, std::int64_t pitch, int parts,
                                   bool float16 = false) {
    const int planes = parts + (float16 ? 1 : 0);
    return {memory.take<std::uint16_t>(rows * pitch * planes), pitch, rows * pitch, parts, float16};
  }

  void take_sums(Carver& memory) {
    m_.grad = take_planes(memory, g_.chunk_rows, g_.samples, parts_.order);
    m_.bias_parts = memory.take<float>(g_.chunk_tiles() * g_.samples);
    if (r_.wanted.grad_inputs) m_.input_parts = memory.take<float>(g_.input_splits * g_.chunk_rows * g_.dim);
    if (!r_.wanted.rows()) return;
    m_.weight_parts = memory.take<float>(g_.weight_splits * g_.samples * g_.dim);
    m_.bias_sums = memory.take<float>(samples());
  }

  // The rows of samples add up G and the inputs, as those of labels do.
  void take_group_sums(Carver& memory) {
    m_.group_grad = m_.bias_sums = memory.take<float>(r_.batch * r_.negatives.count);
    if (r_.wanted.grad_inputs) m_.input_parts = memory.take<float>(r_.batch * g_.dim);
  }

  void take_keys(Carver& memory) {
    m_.removed = memory.take<AtomicWord>(chunk_rows() * removed_pitch());
    if (all_classes_) {
      m_.keys = {.num_sampled = samples(), .num_classes = r_.num_classes};
      return;
    }
    const auto slots = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(2 * samples())));
    m_.keys = {.sampled = m_.sampled,
               .class_keys = r_.class_keys,
               .num_sampled = samples(),
               .of_group = r_.batch > 0 ? r_.negatives.count : samples(),
               .num_classes = r_.num_classes,
               .slots = slots,
               .first = memory.take<AtomicWord>(slots),
               .count = memory.take<AtomicWord>(samples()),
               .end = memory.take<AtomicWord>(samples()),
               .used = memory.take<AtomicWord>(1),
               .slot_of = memory.take<std::uint32_t>(samples()),
               .positions = memory.take<std::uint32_t>(samples())};
  }

  void take_rows(Carver& memory) {
    RowOrder& order = rows_.order;
    order.targets = targets();
    order.sampled = m_.sampled;
    order.num_labels = num_labels();
    order.num_sampled = samples();
    order.room = all_classes_ ? r_.num_classes : order.entries();
    if (has_groups()) {
      order.num_sampled = r_.batch * r_.negatives.count;
      order.of_group = r_.negatives.count;
      order.served = served();
    }
    order.num_classes = r_.num_classes;
    order.class_bits = std::bit_width(static_cast<std::uint64_t>(r_.num_classes));
    const std::int64_t entries = order.entries();
    order.sorted = memory.take<RowEntry>(entries);
    order.rows_so_far = memory.take<std::uint32_t>(entries);
    order.summary = memory.take<RowSummary>(1);
    if (has_many_entries(entries)) {
      order.unsorted = memory.take<RowEntry>(entries);
      order.sort_scratch_bytes = sort_bytes(entries);
      order.sort_scratch = memory.take<unsigned char>(static_cast<std::int64_t>(order.sort_scratch_bytes));
    }
    order.row_count = all_classes_ ? memory.take<std::int64_t>(1) : out_.row_count;
    rows_.dim = r_.dim;
    rows_.inputs = inputs();
    rows_.input_scale = input_scale();
    rows_.true_grad = m_.true_grad;
    rows_.weight_parts = m_.weight_parts;
    rows_.weight_part_count = has_groups() ? 1 : g_.weight_splits;
    rows_.weight_part = g_.samples * g_.dim;
    rows_.weight_pitch = g_.dim;
    rows_.bias_sums = m_.bias_sums;
    rows_.row_parts = memory.take<float>(2 * rows_.pieces() * rows_.dim);
    rows_.bias_parts = memory.take<float>(2 * rows_.pieces());
    rows_.row_ids = all_classes_ ? memory.take<std::int64_t>(order.room) : out_.row_ids;
    rows_.grad_weights = r_.wanted.grad_weights ? out_.grad_weights : nullptr;
    rows_.grad_biases = r_.wanted.grad_biases ? out_.grad_biases : nullptr;
    rows_.grad_weights_dtype = out_.grad_weights_dtype.value_or(r_.dtype);
    rows_.grad_biases_dtype = out_.grad_biases_dtype.value_or(r_.dtype);
  }
};

}  // namespace fastnce::cuda
