// A sampled loss as a sequence of kernels, and how its workspace is laid out.
#include "cuda/loss/loss.h"

#include <bit>
#include <optional>

#include "cuda/gemm/geometry.h"
#include "cuda/gemm/product.h"
#include "cuda/loss/examples.h"
#include "cuda/loss/groups.h"
#include "cuda/loss/logits.h"
#include "cuda/loss/removed.h"
#include "cuda/loss/softmax.h"
#include "cuda/rows/lists.h"
#include "cuda/rows/row_sort.h"
#include "cuda/rows/rows.h"
#include "cuda/runtime/carver.h"
#include "cuda/runtime/runtime.h"
#include "cuda/runtime/side_stream.h"
#include "cuda/sampler/sampler.h"

namespace fastnce::cuda {

namespace {

// Intermediate results on the device; candidates among them where they are drawn. `x`, `w` and G are planes, padded
// with zeros to whole tiles.
struct Intermediates {
  const std::int64_t* sampled;  // z [S]
  GivenQ sampled_q;             // Q(z) [S]
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

}  // namespace

struct PlannedLoss {
  LossRequest request;
  Geometry geometry;
  Parts parts;
};

namespace {

class LossCall {
 public:
  LossCall(const PlannedLoss& plan, const LossOutputs& outputs)
      : r_(plan.request), g_(plan.geometry), parts_(plan.parts), out_(outputs) {}

  std::size_t workspace_bytes() {
    Carver measure;
    take_workspace(measure);
    return measure.used();
  }

  void queue(const Workspace& workspace, const Stream& stream) {
    if (!r_.wanted.gradients() && !r_.wanted.loss) return;
    Carver memory(workspace);
    take_workspace(memory);
    memory.require_within(workspace);
    if (r_.negatives.sampler) draw(stream);
    check_lists(stream);
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
  const float* label_weights() const { return static_cast<const float*>(r_.targets.weights); }
  bool is_mean() const { return r_.loss.true_target == TrueTarget::kMean; }
  Padding padding() const { return {r_.targets.padding.has_value(), r_.targets.padding.value_or(0)}; }
  static Factor factor(const ExampleFactor& of) {
    return {static_cast<const float*>(of.values), static_cast<float>(of.all)};
  }
  static GivenQ given_q(const void* expected_count, const void* log_q) {
    return {static_cast<const float*>(log_q != nullptr ? log_q : expected_count), log_q != nullptr};
  }
  float input_scale() const { return static_cast<float>(1.0 / r_.temperature); }
  Factor grad_loss() const { return {static_cast<const float*>(r_.grad_loss), 1.0f}; }

  void draw(const Stream& stream) const {
    queue_candidates(*r_.negatives.sampler, r_.negatives.calls, r_.targets.ids, num_labels(),
                     {.sampled = const_cast<std::int64_t*>(m_.sampled),  // workspace, as are the counts
                      .sampled_count = const_cast<float*>(m_.sampled_q.values),
                      .true_count = const_cast<float*>(m_.true_q.values)},
                     m_.sampler, stream);
  }

  DeviceTargets targets() const {
    return {.ids = r_.targets.ids,
            .padding = padding(),
            .per_example = r_.targets.per_example,
            .lists = {r_.targets.offsets, r_.targets.listed, m_.label_fault},
            .example = m_.example};
  }

  DeviceLists exclude() const { return {r_.exclude.offsets, r_.exclude.listed, m_.exclude_fault}; }

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

  // Whether the logits' kernels compare each sample with each label: no launches, but T comparisons for each logit.
  bool compares_labels() const {
    constexpr std::int64_t kMostCompared = 8;
    return r_.loss.remove_accidental_hits && !r_.targets.offsets && r_.targets.per_example <= kMostCompared &&
           !r_.exclude.offsets && !r_.class_keys && !has_groups();
  }

  // Without examples no product has run.
  void clear_sums(const Stream& stream) const {
    const auto clear = [&](float* sums, std::int64_t count) {
      runtime::fill_bytes(sums, 0, static_cast<std::size_t>(count) * sizeof(float), stream);
    };
    clear(m_.weight_parts, g_.weight_splits * g_.samples * g_.dim);
    clear(m_.bias_sums, samples());
  }
  Rows inputs() const { return {r_.inputs, r_.inputs_stride, r_.inputs_dtype.value_or(r_.dtype)}; }
  DeviceTable weights() const { return {r_.weights, r_.weights_dtype.value_or(r_.dtype)}; }
  DeviceTable biases() const { return {r_.biases, r_.biases_dtype.value_or(r_.dtype)}; }

  static OperandPlanes take_planes(Carver& memory, std::int64_t rows, std::int64_t pitch, int parts,
                                   bool float16 = false) {
    const int planes = parts + (float16 ? 1 : 0);
    return {memory.take<std::uint16_t>(rows * pitch * planes), pitch, rows * pitch, parts, float16};
  }

  void take_workspace(Carver& memory) {
    m_ = {};
    rows_ = {};
    if (r_.negatives.sampler) {
      m_.sampled = memory.take<std::int64_t>(r_.negatives.count);
      m_.sampled_q.values = memory.take<float>(r_.negatives.count);
      m_.true_q.values = memory.take<float>(num_labels());
      const std::size_t bytes = sampler_workspace_bytes(*r_.negatives.sampler);
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
    if (has_padding || r_.targets.offsets != nullptr) m_.takes_part = memory.take<bool>(r_.batch);
    (is_softmax() ? m_.true_logit : m_.true_loss) = memory.take<float>(num_labels());
    m_.true_grad = memory.take<float>(num_labels());
    m_.loss_parts = memory.take<float>(loss_tiles() * chunk_rows());
    if (is_softmax()) m_.maxima = memory.take<float>(loss_tiles() * chunk_rows());
    if (!r_.wanted.gradients()) return;
    if (is_softmax()) m_.scales = memory.take<float>(loss_tiles() * chunk_rows());
    has_groups() ? take_group_sums(memory) : take_sums(memory);
    if (r_.wanted.rows()) take_rows(memory);
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
    m_.removed = memory.take<AtomicWord>(chunk_rows() * removed_pitch());
  }
  std::int64_t removed_pitch() const { return g_.samples / 64; }

  void take_rows(Carver& memory) {
    RowOrder& order = rows_.order;
    order.targets = targets();
    order.sampled = m_.sampled;
    order.num_labels = num_labels();
    order.num_sampled = samples();
    order.room = order.entries();
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
    order.row_count = out_.row_count;
    rows_.dim = r_.dim;
    rows_.inputs = inputs();
    rows_.input_scale = input_scale();
    rows_.true_grad = m_.true_grad;
    rows_.weight_parts = m_.weight_parts;
    rows_.weight_part_count = g_.weight_splits;
    rows_.weight_part = g_.samples * g_.dim;
    rows_.weight_pitch = g_.dim;
    rows_.bias_sums = m_.bias_sums;
    rows_.row_parts = memory.take<float>(2 * rows_.pieces() * rows_.dim);
    rows_.bias_parts = memory.take<float>(2 * rows_.pieces());
    rows_.row_ids = out_.row_ids;
    rows_.grad_weights = r_.wanted.grad_weights ? out_.grad_weights : nullptr;
    rows_.grad_biases = r_.wanted.grad_biases ? out_.grad_biases : nullptr;
    rows_.grad_weights_dtype = out_.grad_weights_dtype.value_or(r_.dtype);
    rows_.grad_biases_dtype = out_.grad_biases_dtype.value_or(r_.dtype);
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
                          .mean = is_mean(),
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
        .labels = compares_labels() ? r_.targets.ids + first * r_.targets.per_example : nullptr,
        .removed = reinterpret_cast<const std::uint32_t*>(m_.removed),  // whose lower half comes first, as on every GPU
        .removed_pitch = 2 * removed_pitch(),
        .padding = padding(),
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
                     .mean = is_mean(),
                     .grad_loss = grad_loss(),
                     .first = first,
                     .examples = examples,
                     .loss = r_.wanted.loss ? static_cast<float*>(out_.loss) : nullptr,
                     .gradients = r_.wanted.gradients(),
                     .scales = m_.scales},
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

  const LossRequest& r_;
  const Geometry& g_;
  const Parts parts_;
  const LossOutputs& out_;
  Intermediates m_{};
  RowsArguments rows_{};
};

}  // namespace

LossPlan plan_loss(const LossRequest& request, int device) {
  auto made = std::make_shared<PlannedLoss>(
      PlannedLoss{request, geometry_of(request, runtime::limits(device)), parts_of(request)});
  const std::size_t bytes = LossCall(*made, {}).workspace_bytes();
  return {bytes, std::move(made)};
}

void queue_loss(const LossPlan& plan, const LossOutputs& outputs, const Workspace& workspace, const Stream& stream) {
  LossCall(*plan.contents, outputs).queue(workspace, stream);
}

}  // namespace fastnce::cuda
