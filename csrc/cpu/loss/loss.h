// The CPU backend of the sampled losses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "fastnce/loss.h"

namespace fastnce::cpu {

// Candidates that the core has checked or drawn. log Q has the compute dtype; null: 0.
struct CandidateView {
  const std::int64_t* sampled;  // z [G, S]
  const void* true_log_q;       // [B, T], or one for each listed label
  const void* sampled_log_q;    // [G, S]
};

// What a request needs beyond its arrays. Where labels are lists or some are padding, entries are the labels that are
// left, and examples without any are left out.
struct LossPlan {
  CandidateView candidates;
  const void* target_weights = nullptr;  // of the entries; null: 1
  RowPlan rows;                          // of the entries; empty if no row gradients are wanted

  bool listed = false;
  std::vector<std::int64_t> examples;       // if listed: which of the batch take part, ascending
  std::vector<std::int64_t> entries;        // the class of each entry
  std::vector<std::int64_t> entry_example;  // an index into `examples`
  std::vector<std::int64_t> entry_offsets;  // [examples + 1]: the entries of each
  std::vector<std::byte> entry_log_q, entry_weights;
  std::vector<std::int64_t> label_counts;  // of the examples that take part, where there are other parts; else empty

  // Of several groups of samples, if listed: the examples of each, [G + 1].
  std::vector<std::int64_t> group_offsets;

  // Samples that examples remove where one group serves all, as in HitLists. `hit_group` is empty if there are none,
  // `hit_offsets` if they are those of the entries.
  std::vector<std::int64_t> hit_offsets, hit_group, hit_begin, hit_positions;
};

// The request must be valid (core/validate.h).
void plan_loss(const LossRequest& request, const CandidateView& candidates, LossPlan& plan);
void run_loss(const LossRequest& request, const LossPlan& plan, const LossOutputs& outputs);

}  // namespace fastnce::cpu
