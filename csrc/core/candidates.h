// The candidates of a call, as the CPU backend takes them: drawn where none are given, with log Q in place of expected
// counts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "fastnce/loss.h"

namespace fastnce {

class Candidates {
 public:
  // Draws if the request says so. Labels must be in range. Counts that are given are not checked.
  void prepare(const LossRequest& request);

  const std::int64_t* sampled() const { return sampled_; }      // z [G, S]
  const void* true_log_q() const { return true_log_q_; }        // of each label, of the compute dtype; null: 0
  const void* sampled_log_q() const { return sampled_log_q_; }  // [G, S], likewise

 private:
  void draw(const LossRequest& request);

  const std::int64_t* sampled_ = nullptr;
  const void* true_log_q_ = nullptr;
  const void* sampled_log_q_ = nullptr;
  std::vector<std::int64_t> drawn_, labels_;
  std::vector<float> true_counts_, sampled_counts_;
  std::vector<std::byte> true_memory_, sampled_memory_;
};

}  // namespace fastnce
