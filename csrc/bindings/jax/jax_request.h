// The request that is the operands of a call for JAX, whichever results are asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "bindings/jax/jax_ffi.h"
#include "fastnce/config.h"
#include "fastnce/loss.h"

namespace fastnce::bindings::jax {

// Options are attributes by the names of python/fastnce/_request.py; those that are missing have the request's default.
inline Loss loss_from(const Call& call) {
  Loss loss;
  if (call.has("family")) {
    const std::string_view family = call.text("family");
    if (family != "logistic" && family != "softmax") throw InvalidValue("family: expected 'logistic' or 'softmax'");
    loss.family = family == "softmax" ? LossFamily::kSoftmax : LossFamily::kLogistic;
  }
  if (call.has("true_target")) {
    const std::string_view target = call.text("true_target");
    if (target != "mean" && target != "one") throw InvalidValue("true_target: expected 'mean' or 'one'");
    loss.true_target = target == "one" ? TrueTarget::kOne : TrueTarget::kMean;
  }
  if (call.has("remove_accidental_hits")) loss.remove_accidental_hits = call.flag("remove_accidental_hits");
  return loss;
}

inline Precision precision_of(const Call& call) {
  return call.has("precision") ? precision_from(call.text("precision"), "precision") : default_precision();
}

// Operands and options. Operands that may be left out are empty then. Lists are values and offsets.
struct RequestCall {
  static constexpr std::int64_t kOperands = 15;

  explicit RequestCall(const Call& call)
      : weights(call.operand(0)),
        biases(call.operand(1)),
        labels(call.operand(2)),
        inputs(call.operand(3)),
        sampled(call.operand(4)),
        true_count(call.operand(5)),
        sampled_count(call.operand(6)),
        positive_weight(call.operand(7)),
        negative_weight(call.operand(8)),
        label_offsets(call.operand(9)),
        label_weights(call.operand(10)),
        exclude(call.operand(11)),
        exclude_offsets(call.operand(12)),
        class_keys(call.operand(13)),
        grad_loss(call.operand(14)),
        weights_{weights.data(), weights.dimension(0), weights.dimension(1)},
        biases_{biases.data(), biases.dimension(0), 1} {
    request.loss = loss_from(call);
    request.loss.positive_weight.values = positive_weight.wanted();
    request.loss.negative_weight.values = negative_weight.wanted();
    request.precision = precision_of(call);
    request.inputs_dtype = dtype_of(inputs);
    request.dtype = *request.inputs_dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
    request.weights_dtype = dtype_of(weights);
    request.biases_dtype = dtype_of(biases);
    request.batch = inputs.dimension(0);
    request.dim = inputs.dimension(1);
    request.num_classes = call.integer("num_classes");
    use_targets(call);
    if (sampled.rank() == 2) request.negatives.groups = sampled.dimension(0);
    request.negatives.count = sampled.dimension(sampled.rank() - 1);
    if (call.has("temperature")) request.temperature = call.number("temperature");
    request.weights.shards = {&weights_, 1};
    if (biases.elements() > 0) request.biases.shards = {&biases_, 1};
    request.inputs = inputs.data();
    request.inputs_stride = request.dim;
    request.grad_loss = grad_loss.wanted();
    if (true_count.elements() + sampled_count.elements() > 0) {
      require_extent(true_count, "true_expected_count", labels.elements(), request.dtype);
      require_extent(sampled_count, "sampled_expected_count", sampled.elements(), request.dtype);
      const bool logs = call.has("log_q") && call.flag("log_q");
      (logs ? request.targets.log_q : request.targets.expected_count) = true_count.data();
      (logs ? request.negatives.log_q : request.negatives.expected_count) = sampled_count.data();
    }
    require_lists("exclude", exclude, exclude_offsets);
    if (class_keys.elements() > 0 && class_keys.dimension(0) != request.num_classes) {
      throw InvalidValue(concat("keys of ", class_keys.dimension(0), " classes: expected ", request.num_classes));
    }
    require_extent_or_nothing(positive_weight, "positive_weight", batch(), request.dtype);
    require_extent_or_nothing(negative_weight, "negative_weight", batch(), request.dtype);
    require_extent_or_nothing(grad_loss, "grad_loss", batch(), request.dtype);
    if (weights.dimension(1) != request.dim) throw InvalidValue("weights do not fit inputs");
  }
  RequestCall(const RequestCall&) = delete;

  std::size_t batch() const { return static_cast<std::size_t>(request.batch); }
  bool has_label_lists() const { return label_offsets.elements() > 0; }
  bool excludes() const { return exclude_offsets.elements() > 0; }

  Buffer weights;          // [V, D]
  Buffer biases;           // [V], or [0] for none
  Buffer labels;           // [B, T], or [n] beside label_offsets
  Buffer inputs;           // [B, D]
  Buffer sampled;          // classes [S] or [G, S]
  Buffer true_count;       // as labels, or [0] for no log Q; the logarithms, if log_q is set
  Buffer sampled_count;    // as sampled, likewise
  Buffer positive_weight;  // [B], or [0] for 1
  Buffer negative_weight;  // [B], or [0] for 1
  Buffer label_offsets;    // [B + 1], or [0] for T labels of each example
  Buffer label_weights;    // as labels, or [0] for 1
  Buffer exclude;          // [m]
  Buffer exclude_offsets;  // [B + 1], or [0] for no exclusions
  Buffer class_keys;       // [V], or [0] for the classes themselves
  Buffer grad_loss;        // [B], or [0] for 1
  LossRequest request;

 private:
  void use_targets(const Call& call) {
    Targets& targets = request.targets;
    require_lists("labels", labels, label_offsets);
    if (has_label_lists()) {
      targets.listed = labels.dimension(0);
    } else {
      if (labels.dimension(0) != request.batch) throw InvalidValue("labels do not fit inputs");
      targets.per_example = labels.dimension(1);
    }
    if (call.has("padding")) targets.padding = call.integer("padding");
    require_extent_or_nothing(label_weights, "label_weights", labels.elements(), request.dtype);
    targets.weights = label_weights.wanted();
  }

  void require_lists(const char* name, const Buffer& values, const Buffer& offsets) const {
    if (offsets.elements() == 0) return;
    if (values.rank() != 1 || offsets.elements() != batch() + 1) {
      throw InvalidValue(concat(name, ": expected values [n] and offsets [", batch() + 1, "]"));
    }
  }

  Shard weights_, biases_;
};

// Ids of a request in host memory, which it refers to.
class HostRequest {
 public:
  explicit HostRequest(RequestCall& call)
      : labels_(call.labels),
        label_offsets_(call.label_offsets),
        sampled_(call.sampled),
        exclude_(call.exclude),
        exclude_offsets_(call.exclude_offsets),
        class_keys_(call.class_keys) {
    LossRequest& request = call.request;
    request.targets.ids = labels_.all().data();
    request.negatives.ids = sampled_.all().data();
    if (call.has_label_lists()) {
      request.targets.offsets = label_offsets_.all().data();
      request.targets.listed = listed("labels", label_offsets_, call.labels);
    }
    if (call.excludes()) {
      listed("exclude", exclude_offsets_, call.exclude);
      request.exclude = {exclude_.all().data(), exclude_offsets_.all().data()};
    }
    if (call.class_keys.elements() > 0) request.class_keys = class_keys_.all().data();
  }

 private:
  // How many values lists hold: arrays of JAX have static sizes, so what follows the last list is no part of any.
  static std::int64_t listed(const char* name, const HostIds& offsets, const Buffer& values) {
    const std::int64_t end = offsets.all().back(), room = values.dimension(0);
    if (end >= 0 && end <= room) return end;
    throw InvalidValue(concat(name, ".offsets[", offsets.all().size() - 1, "] = ", end, ": expected 0 to ", room,
                              ", the number of values"));
  }

  const HostIds labels_, label_offsets_, sampled_, exclude_, exclude_offsets_, class_keys_;
};

}  // namespace fastnce::bindings::jax
