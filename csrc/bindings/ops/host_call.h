// One call with arrays on the CPU: Python's arguments as a LossRequest, converted where they must be.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "bindings/arrays/array.h"
#include "bindings/ops/loss_arguments.h"
#include "fastnce/error.h"

namespace fastnce::bindings {

inline constexpr Place kHost{.decided_by = "inputs"};

inline py::array filled(DType dtype, std::vector<std::int64_t> shape) {
  return new_array(dtype, {shape.begin(), shape.end()});
}

inline Array borrow_host_inputs(py::handle object) {
  Array inputs = borrow_differentiable(object, "inputs", kHost);
  make_rows_contiguous(inputs);
  return inputs;
}

// Owns what the request points to.
template <class T>
class HostCall {
 public:
  HostCall(Array inputs, const LossArguments& args) : call(std::move(inputs), args, kHost) {
    LossRequest& request = call.request;
    if (args.labels.ptr() != nullptr) {
      use_targets(args);
    } else {
      request.targets.per_example = 0;
    }
    use_exclusions(args);
    use_parts(args);
    if (is_given(args.grad_loss)) {
      grad_loss_.emplace(borrow_or_convert(args.grad_loss, "grad_loss", kHost), call.batch_shape(),
                         "a shape that broadcasts to [B]");
      request.grad_loss = grad_loss_->data();
    }
    use_weight(args.positive_weight, "positive_weight", request.loss.positive_weight, positive_weight_);
    use_weight(args.negative_weight, "negative_weight", request.loss.negative_weight, negative_weight_);
    if (is_given(args.sampled_values)) {
      use_candidates(args);
    } else if (args.seed.ptr() != nullptr) {
      call.draw_candidates();
    }
  }
  HostCall(const HostCall&) = delete;

  LossCall call;
  std::vector<std::int64_t> labels_shape;  // as passed

 private:
  // Offsets [B + 1] of lists.
  const std::int64_t* use_offsets(py::handle given, const char* name, std::vector<std::int64_t>& offsets) {
    offsets = copy_ids(borrow_offsets(given, name, call, kHost));
    return offsets.data();
  }

  void use_targets(const LossArguments& args) {
    Targets& targets = call.request.targets;
    const Array labels = borrow_labels(args.labels, call, kHost);
    labels_shape = labels.shape;
    labels_ = copy_ids(labels);
    targets.ids = labels_.data();
    if (call.has_label_lists()) targets.offsets = use_offsets(args.label_offsets, "labels.offsets", label_offsets_);
    if (is_given(args.label_weights)) {
      targets.weights = per_label(args.label_weights, "label_weights", label_weights_);
    }
  }

  void use_exclusions(const LossArguments& args) {
    LossRequest& request = call.request;
    if (is_given(args.class_keys)) {
      class_keys_ = copy_ids(borrow_class_keys(args.class_keys, call, kHost));
      request.class_keys = class_keys_.data();
    }
    if (!is_given(args.exclude)) return;
    const Array values = borrow_or_convert(args.exclude, "exclude.values", kHost);
    require_rank(values, 1, "[n]");
    exclude_ = copy_ids(values);
    request.exclude = {exclude_.data(), use_offsets(args.exclude_offsets, "exclude.offsets", exclude_offsets_)};
    if (exclude_offsets_.back() != values.shape[0]) {
      throw InvalidValue(concat("exclude.offsets[", request.batch, "] = ", exclude_offsets_.back(),
                                ": expected the number of values, ", values.shape[0]));
    }
  }

  void use_parts(const LossArguments& args) {
    OtherParts& parts = call.request.parts;
    if (is_given(args.label_counts)) {
      label_counts_ = copy_ids(borrow_per_example(args.label_counts, "label_counts", call, kHost));
      parts.label_count = label_counts_.data();
    }
    const auto per_example = [&](py::handle given, const char* name, std::optional<Values<double>>& values) {
      if (!is_given(given)) return static_cast<const double*>(nullptr);
      return values.emplace(borrow_per_example(given, name, call, kHost), call.batch_shape(), "[B]").data();
    };
    parts.label_weight = per_example(args.label_weight_sums, "label_weight_sums", label_weight_sums_);
    parts.log_sum_exp = per_example(args.other_log_sum_exp, "other_log_sum_exp", other_log_sum_exp_);
  }

  const T* per_label(py::handle given, const char* name, std::optional<Values<T>>& values) {
    values.emplace(
        borrow_per_label(given, name, call, kHost), call.label_shape(),
        call.has_label_lists() ? "one for each of labels.values, [n]" : "a shape that broadcasts to [B, num_true]");
    return values->data();
  }

  void use_weight(py::handle given, const char* name, ExampleFactor& factor, std::optional<Values<T>>& values) {
    if (!is_given(given)) return;
    if (const std::optional<double> number = one_number(given, name, call.request.dtype)) {
      factor.all = *number;
      return;
    }
    values.emplace(borrow_or_convert(given, name, kHost), call.batch_shape(),
                   "a number, or a shape that broadcasts to [B]");
    factor.values = values->data();
  }

  void use_candidates(const LossArguments& args) {
    const auto values = three_sampled_values(args.sampled_values);
    const Array ids = borrow_candidates(values[0], call, kHost);
    sampled_ = copy_ids(ids);
    call.request.negatives.ids = sampled_.data();
    if (values[1].is_none() && values[2].is_none()) return;
    const bool logs = is_given(args.log_q) && boolean(args.log_q, "log_q");
    Targets& targets = call.request.targets;
    Negatives& negatives = call.request.negatives;
    (logs ? targets.log_q : targets.expected_count) =
        per_label(values[1], logs ? "true_log_q" : "true_expected_count", true_q_);
    sampled_q_.emplace(borrow_or_convert(values[2], logs ? "sampled_log_q" : "sampled_expected_count", kHost),
                       ids.shape, "a shape that broadcasts to that of sampled_candidates");
    (logs ? negatives.log_q : negatives.expected_count) = sampled_q_->data();
  }

  std::vector<std::int64_t> labels_, label_offsets_, sampled_, exclude_, exclude_offsets_, class_keys_, label_counts_;
  std::optional<Values<T>> grad_loss_, positive_weight_, negative_weight_, label_weights_, true_q_, sampled_q_;
  std::optional<Values<double>> label_weight_sums_, other_log_sum_exp_;
};

}  // namespace fastnce::bindings
