// A sampled loss, or one over all classes, as a sequence of kernels. The latter is the former with all classes as
// samples and hits removed, once the labels of an example that are equal have become one: then each class stands once.
#include "cuda/loss/loss.h"

#include <memory>
#include <optional>

#include "cuda/gemm/product.h"
#include "cuda/loss/examples.h"
#include "cuda/loss/logits.h"
#include "cuda/loss/softmax.h"
#include "cuda/loss/workspace.h"
#include "cuda/rows/lists.h"
#include "cuda/runtime/runtime.h"
#include "cuda/runtime/side_stream.h"

namespace fastnce::cuda {

namespace {

class LossCall : LossLayout {
 public:
  using LossLayout::LossLayout;

  std::size_t workspace_bytes() {
    Carver measure;
    take_workspace(measure);
    return measure.used();
  }

  void queue(const Workspace& workspace, const Stream& stream) {
    if (!r_.wanted.gradients() && !r_.wanted.loss && !r_.wanted.log_sum_exp) return;
    Carver memory(workspace);
    take_workspace(memory);
    memory.require_within(workspace);
    if (r_.negatives.sampler) draw(stream);
    check_lists(stream);
    if (all_classes_) enter_all_classes(stream);
    // First, so that the order of rows, which takes one multiprocessor, starts before the products take them all.
    std::optional<SideStream> side;
    if (r_.wanted.rows()) {
      if (is_slow(rows_.order)) side.emplace(stream);
      queue_row_order(rows_.order, side ? side->stream() : stream);
    }
    enter(stream);
    if (m_.removed != nullptr) queue_sampled_keys(m_.keys, stream);
    for (std::int64_t chunk = 0; chunk < chunks(); ++chunk) queue_chunk(chunk, stream);
    if (!r_.wanted.rows()) return;
    if (chunks() == 0) clear_sums(stream);
    if (side) side->join();
    queue_row_sums(rows_, stream);
  }

 private:
  void draw(const Stream& stream) const {
    queue_candidates(drawn(), r_.negatives.calls,
                     {.sampled = const_cast<std::int64_t*>(m_.sampled),  // workspace, as are the counts
                      .sampled_count = const_cast<float*>(m_.sampled_q.values),
                      .true_count = const_cast<float*>(m_.true_q.values)},
                     m_.sampler, stream);
  }

  void enter_all_classes(const Stream& stream) const {
    queue_count_up(samples(), const_cast<std::int64_t*>(m_.sampled), stream);
    queue_merge_labels({.targets = given_targets(),
                        .num_labels = num_labels(),
                        .weights = static_cast<const float*>(r_.targets.weights),
                        .mean = merges_means(),
                        .label_count = r_.parts.label_count,
                        .ids = m_.labels,
                        .label_targets = m_.label_targets},
                       stream);
  }

  void check_lists(const Stream& stream) const {
    const auto check = [&](const DeviceLists& lists, IdArgument argument, AtomicWord* fault, std::int32_t* example) {
      if (lists.offsets == nullptr) return;
      queue_lists({.lists = lists,
                   .argument = argument,
                   .batch = r_.batch,
                   .first_fault = fault,
                   .example = example,
                   .faults = runtime::fault_record()},
                  stream);
    };
    check(targets().lists, IdArgument::kLabelOffsets, m_.label_fault, m_.example);
    check(exclude(), IdArgument::kExcludeOffsets, m_.exclude_fault, nullptr);
  }

  // Without examples no product has run.
  void clear_sums(const Stream& stream) const {
    const auto clear = [&](float* sums, std::int64_t count) {
      runtime::fill_bytes(sums, 0, static_cast<std::size_t>(count) * sizeof(float), stream);
    };
    clear(m_.weight_parts, g_.weight_splits * g_.samples * g_.dim);
    clear(m_.bias_sums, samples());
  }

  GroupsArguments groups() const {
    return {.weights = weights(),
            .biases = biases(),
            .inputs = inputs(),
            .sampled = m_.sampled,
            .q = m_.sampled_q,
            .offset = m_.offset,
            .batch = r_.batch,
            .dim = r_.dim,
            .num_classes = r_.num_classes,
            .num_sampled = r_.negatives.count,
            .served = served(),
            .scale = input_scale(),
            .takes_part = m_.takes_part,
            .removed = reinterpret_cast<const std::uint32_t*>(m_.removed),
            .removed_pitch = 2 * removed_pitch(),
            .grad_loss = grad_loss(),
            .negative_weight = factor(r_.loss.negative_weight),
            .softmax = is_softmax(),
            .grad = m_.group_grad,
            .loss_parts = m_.loss_parts,
            .maxima = m_.maxima,
            .scales = m_.scales,
            .inputs_sum = m_.input_parts,
            .input_pitch = g_.dim,
            .faults = runtime::fault_record()};
  }

  void enter_samples(const Stream& stream) const {
    queue_enter_samples({.weights = weights(),
                         .biases = biases(),
                         .sampled = m_.sampled,
                         .q = m_.sampled_q,
                         .num_sampled = samples(),
                         .dim = r_.dim,
                         .num_classes = r_.num_classes,
                         .rows = g_.samples,
                         .planes = m_.w,
                         .offset = m_.offset,
                         .faults = runtime::fault_record()},
                        stream);
  }

  void enter(const Stream& stream) const {
    runtime::FaultRecord* const faults = runtime::fault_record();
    has_groups() ? queue_group_offsets(groups(), stream) : enter_samples(stream);
    queue_enter_examples({.weights = weights(),
                          .biases = biases(),
                          .inputs = inputs(),
                          .targets = targets(),
                          .num_labels = num_labels(),
                          .q = m_.true_q,
                          .label_weights = label_weights(),
                          .label_count = r_.parts.label_count,
                          .mean = is_mean(),
                          .weights_are_targets = all_classes_,
                          .positive_weight = factor(r_.loss.positive_weight),
                          .grad_loss = grad_loss(),
                          .input_scale = input_scale(),
                          .batch = r_.batch,
                          .dim = r_.dim,
                          .num_classes = r_.num_classes,
                          .rows = g_.batch(),
                          .planes = m_.x,
                          .takes_part = m_.takes_part,
                          .true_logit = m_.true_logit,
                          .true_loss = m_.true_loss,
                          .true_grad = m_.true_grad,
                          .faults = faults},
                         stream);
  }

  // Planes as an operand, from row `row` on.
  static Operand operand(const OperandPlanes& planes, std::int64_t row = 0) {
    return {planes.data + row * planes.pitch, planes.pitch, planes.plane};
  }
  // The same for the logits: the float16 plane, if there is one.
  static Operand logits_operand(const OperandPlanes& planes, std::int64_t row = 0) {
    Operand of = operand(planes, row);
    if (planes.float16) of.data += planes.parts * planes.plane;
    return of;
  }

  void queue_chunk(std::int64_t chunk, const Stream& stream) const {
    const std::int64_t first = chunk * chunk_rows();
    const std::int64_t examples = std::min(chunk_rows(), r_.batch - first);
    const bool has_samples = r_.negatives.count > 0;
    if (m_.removed != nullptr) {
      queue_removed({.keys = m_.keys,
                     .targets = targets(),
                     .labels = r_.loss.remove_accidental_hits,
                     .exclude = exclude(),
                     .excluded = r_.exclude.ids,
                     .first = first,
                     .examples = examples,
                     .rows = chunk_rows(),
                     .served = served(),
                     .words = m_.removed,
                     .pitch = removed_pitch(),
                     .faults = runtime::fault_record()},
                    stream);
    }
    if (has_samples) has_groups() ? queue_group_logits(groups(), stream) : queue_logits(first, examples, stream);
    if (is_softmax()) queue_normaliser(first, examples, stream);
    if (has_groups()) {
      if (r_.wanted.grad_inputs) queue_group_inputs(groups(), stream);
    } else if (has_samples && r_.wanted.gradients()) {
      queue_gradients(chunk, first, stream);
    }
    const bool has_loss = r_.wanted.loss && !is_softmax();
    if (!has_loss && !r_.wanted.grad_inputs) return;
    queue_finish_examples({.weights = weights(),
                           .targets = targets(),
                           .exclude = exclude(),
                           .takes_part = m_.takes_part,
                           .true_loss = m_.true_loss,
                           .true_grad = m_.true_grad,
                           .dim = r_.dim,
                           .num_classes = r_.num_classes,
                           .first = first,
                           .examples = examples,
                           .loss_parts = m_.loss_parts,
                           .loss_part_count = loss_tiles(),
                           .loss_pitch = chunk_rows(),
                           .input_parts = m_.input_parts,
                           .input_part_count = has_groups()  ? 1
                                               : has_samples ? g_.input_splits
                                                             : 0,
                           .input_part = chunk_rows() * g_.dim,
                           .input_pitch = g_.dim,
                           .input_scale = input_scale(),
                           .loss = has_loss ? static_cast<float*>(out_.loss) : nullptr,
                           .grad_inputs = r_.wanted.grad_inputs ? out_.grad_inputs : nullptr,
                           .grad_inputs_dtype = out_.grad_inputs_dtype.value_or(r_.dtype)},
                          stream);
  }

  void queue_logits(std::int64_t first, std::int64_t examples, const Stream& stream) const {
    const LogitsArguments args{
        .x = logits_operand(m_.x, first),
        .w = logits_operand(m_.w),
        .slices = g_.dim / kTileDepth,
        .scale = input_scale(),
        .offset = m_.offset,
        .sampled = m_.sampled,
        .labels = compares_labels() ? targets().ids + first * r_.targets.per_example : nullptr,
        .removed = reinterpret_cast<const std::uint32_t*>(m_.removed),  // whose lower half comes first, as on every GPU
        .removed_pitch = 2 * removed_pitch(),
        .padding = targets().padding,
        .takes_part = m_.takes_part != nullptr ? m_.takes_part + first : nullptr,
        .grad_loss = grad_loss().from(first),
        .negative_weight = factor(r_.loss.negative_weight).from(first),
        .examples = examples,
        .num_sampled = r_.negatives.count,
        .num_true = r_.targets.per_example,
        .grad = m_.grad,
        .loss_parts = r_.wanted.loss || is_softmax() ? m_.loss_parts : nullptr,
        .loss_pitch = g_.chunk_rows,
        .maxima = m_.maxima,
        .bias_parts = m_.bias_parts,
        .bias_pitch = g_.samples};
    is_softmax() ? queue_softmax_logits(args, g_, parts_, stream) : queue_logistic_logits(args, g_, parts_, stream);
  }

  // Of the softmax loss: its value and true_grad, and G.
  void queue_normaliser(std::int64_t first, std::int64_t examples, const Stream& stream) const {
    queue_normalise({.maxima = m_.maxima,
                     .sums = m_.loss_parts,
                     .tiles = loss_tiles(),
                     .pitch = chunk_rows(),
                     .true_logit = m_.true_logit,
                     .true_grad = m_.true_grad,
                     .targets = targets(),
                     .exclude = exclude(),
                     .parts = r_.parts,
                     .takes_part = m_.takes_part,
                     .mean = is_mean(),
                     .grad_loss = grad_loss(),
                     .first = first,
                     .examples = examples,
                     .loss = r_.wanted.loss ? static_cast<float*>(out_.loss) : nullptr,
                     .gradients = r_.wanted.gradients(),
                     .scales = m_.scales,
                     .log_sum_exp = r_.wanted.log_sum_exp ? out_.log_sum_exp : nullptr},
                    stream);
    if (r_.negatives.count == 0 || !r_.wanted.gradients()) return;
    if (has_groups()) return queue_group_scale(groups(), stream);
    queue_scale({.grad = m_.grad,
                 .scales = m_.scales,
                 .scale_pitch = g_.chunk_rows,
                 .examples = examples,
                 .bias_parts = m_.bias_parts,
                 .bias_pitch = g_.samples},
                g_, stream);
  }

  // From a chunk's G.
  void queue_gradients(std::int64_t chunk, std::int64_t first, const Stream& stream) const {
    if (r_.wanted.rows()) {
      queue_finish_samples({.bias_parts = m_.bias_parts,
                            .bias_part_count = g_.chunk_tiles(),
                            .bias_pitch = g_.samples,
                            .num_sampled = samples(),
                            .bias_sums = m_.bias_sums,
                            .accumulate = chunk > 0},
                           stream);
    }
    if (r_.wanted.grad_inputs) {
      queue_grad_inputs({.a = operand(m_.grad),
                         .b = operand(m_.w),
                         .slices = g_.samples / kTileDepth,
                         .out = m_.input_parts,
                         .pitch = g_.dim,
                         .part = g_.chunk_rows * g_.dim,
                         .accumulate = false},
                        g_, parts_, stream);
    }
    if (r_.wanted.grad_weights) {
      queue_grad_weights({.a = operand(m_.grad),
                          .b = operand(m_.x, first),
                          .slices = g_.chunk_rows / kTileDepth,
                          .out = m_.weight_parts,
                          .pitch = g_.dim,
                          .part = g_.samples * g_.dim,
                          .accumulate = chunk > 0},
                         g_, parts_, stream);
    }
  }
};

}  // namespace

LossPlan plan_loss(const LossRequest& request, int device, bool all_classes) {
  auto made = std::make_shared<PlannedLoss>(
      PlannedLoss{request, geometry_of(request, runtime::limits(device)), parts_of(request), all_classes});
  const std::size_t bytes = LossCall(*made, {}).workspace_bytes();
  return {bytes, std::move(made)};
}

void queue_loss(const LossPlan& plan, const LossOutputs& outputs, const Workspace& workspace, const Stream& stream) {
  LossCall(*plan.contents, outputs).queue(workspace, stream);
}

}  // namespace fastnce::cuda
