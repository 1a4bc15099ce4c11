// An UpdateProblem (update_problem.h) whose arrays are on the device, in any layout; and one whose tables are of 16
// bits on the host.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <deque>
#include <vector>

#include "device_memory.h"
#include "device_numbers.h"
#include "fastnce/cuda.h"
#include "update_problem.h"

namespace fastnce {

// How tables, states and gradients lie in memory.
struct Layout {
  DType dtype = DType::kFloat32;  // of the tables
  std::int64_t shards = 1;
  Partition partition = Partition::kDiv;
  std::int64_t gap = 0;                    // elements between rows of the tables
  std::int64_t skip = 0;                   // elements in front of each shard
  std::int64_t state_skip = 0;             // in front of the states
  DType gradient_dtype = DType::kFloat32;  // of the gradients of weights
  std::int64_t gradient_gap = 0;
  std::int64_t gradient_skip = 0;
};

class DeviceUpdate {
 public:
  explicit DeviceUpdate(UpdateProblem<float>& host, const Layout& layout = {})
      : host_(host),
        layout_(layout),
        weights_(host.weights, host.dim, host, layout),
        biases_(host.biases, 1, host, layout),
        rows_(spread(host.rows, host.dim, layout.gradient_gap), layout.gradient_dtype, layout.gradient_skip),
        bias_rows_(host.bias_rows),
        ids_(host.ids) {
    tables = host.tables();
    tables.weights = {weights_.shards, layout.partition};
    tables.biases = {biases_.shards, layout.partition};
    tables.weights_dtype = tables.biases_dtype = layout.dtype;
    update.optimizer = host.optimizer;
    for (int i = 0; i < kMostStates; ++i) {
      update.weights_states[i] = weights_.states[i].data();
      update.biases_states[i] = biases_.states[i].data();
    }
    gradients = {.count = std::ssize(host.ids),
                 .ids = ids_.data(),
                 .weights = rows_.data(),
                 .weights_stride = host.dim + layout.gradient_gap,
                 .biases = bias_rows_.data(),
                 .weights_dtype = layout.gradient_dtype,
                 .padded = host.padded};
  }

  // Updates the tables on the device, with a workspace that is just large enough, and brings them to the host's arrays.
  void run() {
    const std::size_t bytes = cuda::update_rows_workspace_bytes(tables, gradients, 0);
    const DeviceArray<unsigned char> workspace(bytes);
    cuda::update_rows(update, tables, gradients, {workspace.data(), bytes}, {});
    download();
  }
  // The same with the first `count` gradients, whose ids ascend.
  void run_complete(std::int64_t count) {
    const DeviceArray<std::int64_t> row_count(std::vector<std::int64_t>{count});
    cuda::update_complete_rows(update, tables, gradients, row_count.data(), {});
    download();
  }

  // Gaps must be as they were.
  void download() {
    weights_.download(host_.weights, host_, layout_);
    biases_.download(host_.biases, host_, layout_);
  }

  Scoring tables;
  RowUpdate update;
  GradientRows gradients;

 private:
  static constexpr float kGap = 7.0f;

  static std::vector<float> spread(const std::vector<float>& values, std::int64_t columns, std::int64_t gap) {
    std::vector<float> all;
    for (auto row = values.begin(); row != values.end(); row += columns) {
      all.insert(all.end(), row, row + columns);
      all.insert(all.end(), gap, std::nanf(""));
    }
    return all;
  }

  struct OnDevice {
    OnDevice(const Updated<float>& host, std::int64_t columns, const UpdateProblem<float>& p, const Layout& layout)
        : columns(columns) {
      const std::int64_t stride = columns + layout.gap;
      for (std::int64_t s = 0; s < layout.shards; ++s) {
        std::vector<float> own(shard_rows(s, p.num_classes, layout.shards) * stride, kGap);
        for (std::int64_t id = 0; id < p.num_classes; ++id) {
          const ShardAddress at = locate_row(id, p.num_classes, layout.shards, layout.partition);
          if (at.shard == s) std::copy_n(host.table.begin() + id * columns, columns, own.begin() + at.row * stride);
        }
        memory.emplace_back(own, layout.dtype, layout.skip);
        shards.push_back({memory.back().data(), std::ssize(own) / stride, stride});
      }
      for (const std::vector<float>& state : host.states)
        states.emplace_back(state, DType::kFloat32, layout.state_skip);
    }

    void download(Updated<float>& host, const UpdateProblem<float>& p, const Layout& layout) const {
      const std::int64_t stride = columns + layout.gap;
      std::vector<std::vector<float>> all;
      for (const Numbers& shard : memory) all.push_back(shard.values());
      for (std::int64_t id = 0; id < p.num_classes; ++id) {
        const ShardAddress at = locate_row(id, p.num_classes, layout.shards, layout.partition);
        const auto row = all[at.shard].begin() + at.row * stride;
        std::copy_n(row, columns, host.table.begin() + id * columns);
        EXPECT_TRUE(std::all_of(row + columns, row + stride, [](float value) { return value == kGap; })) << id;
      }
      for (int i = 0; i < kMostStates; ++i) host.states[i] = states[i].values();
    }

    std::int64_t columns;
    std::deque<Numbers> memory, states;
    std::vector<Shard> shards;
  };

  UpdateProblem<float>& host_;
  const Layout layout_;
  OnDevice weights_, biases_;
  Numbers rows_;
  DeviceArray<float> bias_rows_;
  DeviceArray<std::int64_t> ids_;
};

// The tables of a problem in a type of 16 bits.
class HalfTables {
 public:
  HalfTables(UpdateProblem<float>& problem, DType dtype) : problem_(problem), dtype_(dtype) {
    for (const float value : problem.weights.table) weights_.push_back(half_bits(value, dtype));
    for (const float value : problem.biases.table) biases_.push_back(half_bits(value, dtype));
    weight_shard_ = {weights_.data(), problem.num_classes, problem.dim};
    bias_shard_ = {biases_.data(), problem.num_classes, 1};
  }
  HalfTables(const HalfTables&) = delete;

  Scoring tables() const {
    Scoring all = problem_.tables();
    all.weights.shards = {&weight_shard_, 1};
    all.biases.shards = {&bias_shard_, 1};
    all.weights_dtype = all.biases_dtype = dtype_;
    return all;
  }
  // Writes them to the problem's.
  void widen() {
    const auto number = [&](std::uint16_t bits) { return from_half_bits(bits, dtype_); };
    std::ranges::transform(weights_, problem_.weights.table.begin(), number);
    std::ranges::transform(biases_, problem_.biases.table.begin(), number);
  }

 private:
  UpdateProblem<float>& problem_;
  DType dtype_;
  std::vector<std::uint16_t> weights_, biases_;
  Shard weight_shard_, bias_shard_;
};

}  // namespace fastnce
