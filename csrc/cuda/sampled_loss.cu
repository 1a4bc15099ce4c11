// The sampled loss as a sequence of kernels, and how its workspace is laid out.
#include "cuda/sampled_loss.h"

#include <bit>
#include <optional>

#include "cuda/carver.h"
#include "cuda/examples.h"
#include "cuda/geometry.h"
#include "cuda/logits.h"
#include "cuda/product.h"
#include "cuda/row_sort.h"
#include "cuda/rows.h"
#include "cuda/runtime.h"
#include "cuda/side_stream.h"

namespace fastnce::cuda {

namespace {

// Intermediate results on the device. `x`, `w` and G are planes, padded with zeros to whole tiles.
struct Intermediates {
  OperandPlanes x;      // [B, D]
  OperandPlanes w;      // [S, D]
  OperandPlanes grad;   // G of one chunk, [chunk, S]
  float* offset;        // [S]
  float* true_loss;     // [B, T]
  float* true_grad;     // [B, T]
  float* loss_parts;    // [sample tiles, chunk]
  float* bias_parts;    // [chunk tiles, S]
  float* bias_sums;     // [S]
  float* input_parts;   // [input splits, chunk, D]
  float* weight_parts;  // [weight splits, S, D]
};

class SampledLoss {
 public:
  SampledLoss(const SampledLossParams& params, int device)
      : p_(params), g_(geometry_of(params, runtime::limits(device))), parts_(parts_of(params)) {}

  std::size_t workspace_bytes() {
    Carver measure;
    take_workspace(measure);
    return measure.used();
  }

  void queue(const Workspace& workspace, const Stream& stream) {
    if (!wants_grad() && p_.loss == nullptr) return;
    Carver memory(workspace);
    take_workspace(memory);
    memory.require_within(workspace);
    // First, so that the order of rows, which takes one multiprocessor, starts before the products take them all.
    std::optional<SideStream> side;
    if (wants_rows()) {
      if (is_slow(rows_.order)) side.emplace(stream);
      queue_row_order(rows_.order, side ? side->stream() : stream);
    }
    enter(stream);
    for (std::int64_t chunk = 0; chunk < g_.chunks; ++chunk) queue_chunk(chunk, stream);
    if (!wants_rows()) return;
    if (g_.chunks == 0) clear_sums(stream);
    if (side) side->join();
    queue_row_sums(rows_, stream);
  }

 private:
  bool wants_rows() const { return p_.grad_weights != nullptr || p_.grad_biases != nullptr; }
  bool wants_grad() const { return p_.grad_inputs != nullptr || wants_rows(); }
  // Without examples no product has run.
  void clear_sums(const Stream& stream) const {
    const auto clear = [&](float* sums, std::int64_t count) {
      runtime::fill_bytes(sums, 0, static_cast<std::size_t>(count) * sizeof(float), stream);
    };
    clear(m_.weight_parts, g_.weight_splits * g_.samples * g_.dim);
    clear(m_.bias_sums, p_.num_sampled);
  }
  Rows inputs() const { return {p_.inputs, p_.inputs_stride, p_.inputs_dtype.value_or(p_.dtype)}; }
  DeviceTable weights() const { return {p_.weights, p_.weights_dtype.value_or(p_.dtype)}; }
  DeviceTable biases() const { return {p_.biases, p_.biases_dtype.value_or(p_.dtype)}; }

  static OperandPlanes take_planes(Carver& memory, std::int64_t rows, std::int64_t pitch, int parts,
                                   bool float16 = false) {
    const int planes = parts + (float16 ? 1 : 0);
    return {memory.take<std::uint16_t>(rows * pitch * planes), pitch, rows * pitch, parts, float16};
  }

  void take_workspace(Carver& memory) {
    m_ = {};
    rows_ = {};
    m_.x = take_planes(memory, g_.batch(), g_.dim, parts_.operands, parts_.float16);
    m_.w = take_planes(memory, g_.samples, g_.dim, parts_.operands, parts_.float16);
    m_.offset = memory.take<float>(p_.num_sampled);
    m_.true_loss = memory.take<float>(p_.batch * p_.num_true);
    m_.true_grad = memory.take<float>(p_.batch * p_.num_true);
    m_.loss_parts = memory.take<float>(g_.sample_tiles() * g_.chunk_rows);
    if (!wants_grad()) return;
    m_.grad = take_planes(memory, g_.chunk_rows, g_.samples, parts_.order);
    m_.bias_parts = memory.take<float>(g_.chunk_tiles() * g_.samples);
    if (p_.grad_inputs != nullptr) m_.input_parts = memory.take<float>(g_.input_splits * g_.chunk_rows * g_.dim);
    if (!wants_rows()) return;
    m_.weight_parts = memory.take<float>(g_.weight_splits * g_.samples * g_.dim);
    m_.bias_sums = memory.take<float>(p_.num_sampled);
    take_rows(memory);
  }

  void take_rows(Carver& memory) {
    RowOrder& order = rows_.order;
    order.labels = p_.labels;
    order.sampled = p_.sampled;
    order.num_labels = p_.batch * p_.num_true;
    order.num_sampled = p_.num_sampled;
    order.num_classes = p_.num_classes;
    order.class_bits = std::bit_width(static_cast<std::uint64_t>(p_.num_classes));
    const std::int64_t entries = order.entries();
    order.sorted = memory.take<RowEntry>(entries);
    order.rows_so_far = memory.take<std::uint32_t>(entries);
    order.summary = memory.take<RowSummary>(1);
    if (has_many_entries(entries)) {
      order.unsorted = memory.take<RowEntry>(entries);
      order.sort_scratch_bytes = sort_bytes(entries);
      order.sort_scratch = memory.take<unsigned char>(static_cast<std::int64_t>(order.sort_scratch_bytes));
    }
    order.row_count = p_.row_count;
    rows_.num_true = p_.num_true;
    rows_.dim = p_.dim;
    rows_.inputs = inputs();
    rows_.true_grad = m_.true_grad;
    rows_.weight_parts = m_.weight_parts;
    rows_.weight_part_count = g_.weight_splits;
    rows_.weight_part = g_.samples * g_.dim;
    rows_.weight_pitch = g_.dim;
    rows_.bias_sums = m_.bias_sums;
    rows_.row_parts = memory.take<float>(2 * rows_.pieces() * rows_.dim);
    rows_.bias_parts = memory.take<float>(2 * rows_.pieces());
    rows_.row_ids = p_.row_ids;
    rows_.grad_weights = p_.grad_weights;
    rows_.grad_biases = p_.grad_biases;
    rows_.grad_weights_dtype = p_.grad_weights_dtype.value_or(p_.dtype);
    rows_.grad_biases_dtype = p_.grad_biases_dtype.value_or(p_.dtype);
  }

  void enter(const Stream& stream) const {
    runtime::FaultRecord* const faults = runtime::fault_record();
    queue_enter_samples({.weights = weights(),
                         .biases = biases(),
                         .sampled = p_.sampled,
                         .sampled_count = static_cast<const float*>(p_.sampled_count),
                         .num_sampled = p_.num_sampled,
                         .dim = p_.dim,
                         .num_classes = p_.num_classes,
                         .rows = g_.samples,
                         .planes = m_.w,
                         .offset = m_.offset,
                         .faults = faults},
                        stream);
    queue_enter_examples({.weights = weights(),
                          .biases = biases(),
                          .inputs = inputs(),
                          .labels = p_.labels,
                          .true_count = static_cast<const float*>(p_.true_count),
                          .grad_loss = static_cast<const float*>(p_.grad_loss),
                          .batch = p_.batch,
                          .num_true = p_.num_true,
                          .dim = p_.dim,
                          .num_classes = p_.num_classes,
                          .rows = g_.batch(),
                          .planes = m_.x,
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
    const std::int64_t first = chunk * g_.chunk_rows;
    const std::int64_t examples = std::min(g_.chunk_rows, p_.batch - first);
    if (p_.num_sampled > 0) queue_products(chunk, first, examples, stream);
    if (p_.loss == nullptr && p_.grad_inputs == nullptr) return;
    queue_finish_examples({.weights = weights(),
                           .labels = p_.labels,
                           .true_loss = m_.true_loss,
                           .true_grad = m_.true_grad,
                           .num_true = p_.num_true,
                           .dim = p_.dim,
                           .num_classes = p_.num_classes,
                           .first = first,
                           .examples = examples,
                           .loss_parts = m_.loss_parts,
                           .loss_part_count = g_.sample_tiles(),
                           .loss_pitch = g_.chunk_rows,
                           .input_parts = m_.input_parts,
                           .input_part_count = p_.num_sampled > 0 ? g_.input_splits : 0,
                           .input_part = g_.chunk_rows * g_.dim,
                           .input_pitch = g_.dim,
                           .loss = static_cast<float*>(p_.loss),
                           .grad_inputs = p_.grad_inputs,
                           .grad_inputs_dtype = p_.grad_inputs_dtype.value_or(p_.dtype)},
                          stream);
  }

  void queue_products(std::int64_t chunk, std::int64_t first, std::int64_t examples, const Stream& stream) const {
    const auto* const grad_loss = static_cast<const float*>(p_.grad_loss);
    queue_logits({.x = logits_operand(m_.x, first),
                  .w = logits_operand(m_.w),
                  .slices = g_.dim / kTileDepth,
                  .offset = m_.offset,
                  .sampled = p_.sampled,
                  .labels = p_.remove_accidental_hits ? p_.labels + first * p_.num_true : nullptr,
                  .grad_loss = grad_loss != nullptr ? grad_loss + first : nullptr,
                  .examples = examples,
                  .num_sampled = p_.num_sampled,
                  .num_true = p_.num_true,
                  .grad = m_.grad,
                  .loss_parts = p_.loss != nullptr ? m_.loss_parts : nullptr,
                  .loss_pitch = g_.chunk_rows,
                  .bias_parts = m_.bias_parts,
                  .bias_pitch = g_.samples},
                 g_, parts_, stream);
    if (wants_rows()) {
      queue_finish_samples({.bias_parts = m_.bias_parts,
                            .bias_part_count = g_.chunk_tiles(),
                            .bias_pitch = g_.samples,
                            .num_sampled = p_.num_sampled,
                            .bias_sums = m_.bias_sums,
                            .accumulate = chunk > 0},
                           stream);
    }
    if (p_.grad_inputs != nullptr) {
      queue_grad_inputs({.a = operand(m_.grad),
                         .b = operand(m_.w),
                         .slices = g_.samples / kTileDepth,
                         .out = m_.input_parts,
                         .pitch = g_.dim,
                         .part = g_.chunk_rows * g_.dim,
                         .accumulate = false},
                        g_, parts_, stream);
    }
    if (p_.grad_weights != nullptr) {
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

  const SampledLossParams& p_;
  const Geometry g_;
  const Parts parts_;
  Intermediates m_{};
  RowsArguments rows_{};
};

}  // namespace

std::size_t loss_workspace_bytes(const SampledLossParams& params, int device) {
  return SampledLoss(params, device).workspace_bytes();
}

void queue_nce_loss(const SampledLossParams& params, const Workspace& workspace, const Stream& stream) {
  SampledLoss(params, stream.device).queue(workspace, stream);
}

}  // namespace fastnce::cuda
