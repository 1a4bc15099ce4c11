// Candidates for each group of examples, [G, S]: a product per example and sample in place of tiles, bound by the bytes
// of the rows, of which each example reads S. Arithmetic is float32 at every precision.
#pragma once

#include <cstdint>

#include "cuda/loss/factor.cuh"
#include "cuda/loss/log_q.cuh"
#include "cuda/rows/table.cuh"
#include "cuda/runtime/runtime.h"

namespace fastnce::cuda {

inline constexpr std::int64_t kGroupTile = 32;  // samples that a warp computes for an example: one for each lane

struct GroupsArguments {
  DeviceTable weights, biases;
  Rows inputs;                  // x [B, D]
  const std::int64_t* sampled;  // z [G, S]
  GivenQ q;                     // Q(z) [G, S]
  float* offset;                // [G, S]: bias - log Q
  std::int64_t batch, dim, num_classes, num_sampled;
  std::int64_t served;           // examples of a group
  float scale;                   // of the products, and of dX: 1 / temperature
  const bool* takes_part;        // [B]; null: all do
  const std::uint32_t* removed;  // [B, removed_pitch], as in LogitsArguments
  std::int64_t removed_pitch;
  Factor grad_loss, negative_weight;
  bool softmax;

  float* grad;        // G [B, S]; of the softmax first exp(v - maximum)
  float* loss_parts;  // [tiles, B]: the loss, or exp(v - maximum), summed over the samples of a tile
  float* maxima;      // [tiles, B]: softmax alone, as scales
  float* scales;      // [tiles, B]: what makes G of exp(v - maximum)
  float* inputs_sum;  // [B, input_pitch]: G times the sampled rows
  std::int64_t input_pitch;
  runtime::FaultRecord* faults;

  constexpr std::int64_t tiles() const { return (num_sampled + kGroupTile - 1) / kGroupTile; }
  constexpr std::int64_t group_of(std::int64_t example) const { return example / served; }
};

void queue_group_offsets(const GroupsArguments& arguments, const Stream& stream);
void queue_group_logits(const GroupsArguments& arguments, const Stream& stream);
void queue_group_scale(const GroupsArguments& arguments, const Stream& stream);
void queue_group_inputs(const GroupsArguments& arguments, const Stream& stream);

}  // namespace fastnce::cuda
