// A Problem (problem.h) whose arrays are on the device.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "device_memory.h"
#include "fastnce/cuda.h"
#include "problem.h"

namespace fastnce {

// A Problem's arrays on the device. Results are poisoned until solve() writes them.
class DeviceProblem {
 public:
  explicit DeviceProblem(Problem<float>& host)
      : host_(host),
        rows_(host.labels.size() + host.sampled.size()),
        weights_(host.weights),
        biases_(host.biases),
        inputs_(host.inputs),
        true_count_(host.true_count),
        sampled_count_(host.sampled_count),
        grad_loss_(host.grad_loss),
        labels_(host.labels),
        sampled_(host.sampled),
        loss_(host.loss.size()),
        grad_inputs_(host.inputs.size()),
        grad_weights_(rows_ * static_cast<std::size_t>(host.sizes.dim)),
        grad_biases_(rows_),
        log_sum_exp_(host.loss.size()),
        row_ids_(rows_),
        row_count_(1),
        weight_shard_{weights_.data(), host.sizes.num_classes, host.sizes.dim},
        bias_shard_{biases_.data(), host.sizes.num_classes, 1},
        request(host.request),
        outputs{.loss = loss_.data(),
                .grad_inputs = grad_inputs_.data(),
                .grad_weights = grad_weights_.data(),
                .grad_biases = grad_biases_.data(),
                .log_sum_exp = log_sum_exp_.data(),
                .row_ids = row_ids_.data(),
                .row_count = row_count_.data()} {
    request.weights.shards = {&weight_shard_, 1};
    if (!request.biases.shards.empty()) request.biases.shards = {&bias_shard_, 1};
    request.inputs = inputs_.data();
    request.targets.ids = labels_.data();
    if (request.targets.expected_count != nullptr) request.targets.expected_count = true_count_.data();
    request.negatives.ids = sampled_.data();
    if (request.negatives.expected_count != nullptr) request.negatives.expected_count = sampled_count_.data();
    put_on_device(request.targets.offsets, host.offsets.size(), offsets_);
    put_on_device(request.exclude.ids, host.excluded.size(), excluded_);
    put_on_device(request.exclude.offsets, host.exclude_offsets.size(), exclude_offsets_);
    put_on_device(request.class_keys, host.class_keys.size(), class_keys_);
    put_on_device(request.targets.weights, host.labels.size(), label_weights_);
    put_on_device(request.targets.log_q, host.labels.size(), true_log_q_);
    put_on_device(request.negatives.log_q, host.sampled.size(), sampled_log_q_);
    put_on_device(request.parts.label_count, host.label_counts.size(), label_counts_);
    put_on_device(request.parts.label_weight, host.weight_sums.size(), weight_sums_);
    put_on_device(request.parts.log_sum_exp, host.other_sums.size(), other_sums_);
    put_on_device(request.loss.positive_weight, positive_weight_);
    put_on_device(request.loss.negative_weight, negative_weight_);
    request.grad_loss = host.request.grad_loss == nullptr ? nullptr : grad_loss_.data();
  }

  // Computes and brings the results to the host's arrays; rows beyond the count must be padding.
  void run() {
    compute_on_device(request, outputs);
    host_.loss = loss_.values();
    host_.grad_inputs = grad_inputs_.values();
    if (request.wanted.log_sum_exp) host_.log_sum_exp = log_sum_exp_.values();
    ids = row_ids_.values();
    const auto count = static_cast<std::size_t>(row_count_.values()[0]);
    ASSERT_LE(count, rows_);
    const auto dim = static_cast<std::size_t>(host_.sizes.dim);
    host_.grad_weights = grad_weights_.values();
    host_.grad_biases = grad_biases_.values();
    for (std::size_t row = count; row < rows_; ++row) {
      ASSERT_EQ(ids[row], count > 0 ? ids[count - 1] : 0);
      ASSERT_TRUE(!request.wanted.grad_biases || host_.grad_biases[row] == 0.0f);
      for (std::size_t d = 0; d < dim; ++d) ASSERT_EQ(host_.grad_weights[row * dim + d], 0.0f);
    }
    ids.resize(count);
    host_.grad_weights.resize(count * dim);
    host_.grad_biases.resize(count);
  }

  void poison() {
    loss_.poison();
    grad_inputs_.poison();
    grad_weights_.poison();
    grad_biases_.poison();
    log_sum_exp_.poison();
    row_ids_.poison();
    row_count_.poison();
  }

 private:
  using Factors = std::optional<DeviceArray<float>>;

  void put_on_device(ExampleFactor& factor, Factors& on_device) const {
    put_on_device(factor.values, static_cast<std::size_t>(request.batch), on_device);
  }
  // An array of the host's that may be null, in place of it.
  template <class Pointer, class T>
  static void put_on_device(Pointer& array, std::size_t size, std::optional<DeviceArray<T>>& on_device) {
    if (array == nullptr) return;
    const auto* const values = static_cast<const T*>(array);
    on_device.emplace(std::vector<T>(values, values + size));
    array = on_device->data();
  }

  Problem<float>& host_;
  std::size_t rows_;
  DeviceArray<float> weights_, biases_, inputs_, true_count_, sampled_count_, grad_loss_;
  Factors positive_weight_, negative_weight_, label_weights_, true_log_q_, sampled_log_q_;
  std::optional<DeviceArray<std::int64_t>> offsets_, excluded_, exclude_offsets_, class_keys_, label_counts_;
  std::optional<DeviceArray<double>> weight_sums_, other_sums_;
  DeviceArray<std::int64_t> labels_, sampled_;
  DeviceArray<float> loss_, grad_inputs_, grad_weights_, grad_biases_;
  DeviceArray<double> log_sum_exp_;
  DeviceArray<std::int64_t> row_ids_, row_count_;
  Shard weight_shard_, bias_shard_;

 public:
  LossRequest request;
  LossOutputs outputs;
  std::vector<std::int64_t> ids;
};

}  // namespace fastnce
