// From a planned request to the task of its kernels, with its workspace.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "cpu/loss/loss.h"
#include "cpu/loss/loss_schedule.h"
#include "cpu/loss/loss_task.h"
#include "cpu/runtime/cache.h"
#include "cpu/runtime/workspace.h"

namespace fastnce::cpu {

template <class T>
FactorView<T> view(const ExampleFactor& factor) {
  return {static_cast<const T*>(factor.values), static_cast<T>(factor.all)};
}

template <class T>
TargetsView<T> targets_of(const LossRequest& request, const LossPlan& plan) {
  const bool listed = plan.listed;
  return {.ids = listed ? plan.entries.data() : request.targets.ids,
          .log_q = static_cast<const T*>(plan.candidates.true_log_q),
          .weights = static_cast<const T*>(plan.target_weights),
          .per_example = request.targets.per_example,
          .offsets = listed ? plan.entry_offsets.data() : nullptr,
          .example = listed ? plan.entry_example.data() : nullptr,
          .counts = plan.label_counts.empty() ? nullptr : plan.label_counts.data(),
          .mean = request.loss.true_target == TrueTarget::kMean};
}

template <class T>
HitLists hits_of(const LossPlan& plan, const TargetsView<T>& targets) {
  if (plan.hit_group.empty()) return {};
  return {.offsets = plan.hit_offsets.empty() ? targets.offsets : plan.hit_offsets.data(),
          .per_example = targets.per_example,
          .group = plan.hit_group.data(),
          .begin = plan.hit_begin.data(),
          .positions = plan.hit_positions.data()};
}

inline RemovedClasses removed_of(const LossRequest& r) {
  if (r.negatives.groups == 1) return {};
  return {r.loss.remove_accidental_hits, r.exclude.ids, r.exclude.offsets, r.class_keys};
}

inline GroupView groups_of(const LossRequest& r, const LossPlan& plan) {
  return {.count = r.negatives.groups,
          .size = r.batch / r.negatives.groups,
          .offsets = plan.group_offsets.empty() ? nullptr : plan.group_offsets.data()};
}

template <class T>
LossTask<T> typed(const LossRequest& r, const LossPlan& plan, const LossOutputs& out, Interruption& interruption) {
  LossTask<T> task{};
  task.batch = plan.listed ? std::ssize(plan.examples) : r.batch;
  task.dim = r.dim;
  task.num_sampled = r.negatives.count;
  task.l2_bytes = l2_cache_bytes();
  task.weights = view(r.weights, r.weights_dtype.value_or(r.dtype));
  task.biases = view(r.biases, r.biases_dtype.value_or(r.dtype));
  task.targets = targets_of<T>(r, plan);
  task.examples = plan.listed ? plan.examples.data() : nullptr;
  task.inputs = static_cast<const T*>(r.inputs);  // or narrower, see NarrowArrays
  task.inputs_stride = r.inputs_stride;
  task.sampled = plan.candidates.sampled;
  task.sampled_log_q = static_cast<const T*>(plan.candidates.sampled_log_q);
  task.grad_loss = static_cast<const T*>(r.grad_loss);
  task.positive_weight = view<T>(r.loss.positive_weight);
  task.negative_weight = view<T>(r.loss.negative_weight);
  task.parts = r.parts;
  task.hits = hits_of(plan, task.targets);
  task.removed = removed_of(r);
  task.groups = groups_of(r, plan);
  task.interruption = &interruption;
  task.loss = r.wanted.loss ? static_cast<T*>(out.loss) : nullptr;
  task.log_sum_exp = r.wanted.log_sum_exp ? out.log_sum_exp : nullptr;
  task.grad_inputs = r.wanted.grad_inputs ? static_cast<T*>(out.grad_inputs) : nullptr;
  task.grad_weights = r.wanted.grad_weights ? static_cast<T*>(out.grad_weights) : nullptr;
  task.grad_biases = r.wanted.grad_biases ? static_cast<T*>(out.grad_biases) : nullptr;
  if (r.wanted.rows()) {
    task.row_offsets = plan.rows.offsets.data();
    task.row_entries = plan.rows.entries.data();
    task.sampled_row = plan.rows.sampled_row.data();
  }
  return task;
}

// Which of the caller's arrays are narrower than the compute dtype, or not yet divided by the temperature. During the
// call, arrays of the compute dtype replace them.
struct NarrowArrays {
  NarrowArrays(const LossRequest& r, const LossOutputs& out)
      : inputs(r.inputs_dtype.value_or(r.dtype) != r.dtype || r.temperature != 1.0),
        grad_inputs(r.wanted.grad_inputs && out.grad_inputs_dtype.value_or(r.dtype) != r.dtype),
        grad_weights(is_narrow(r, out, r.wanted.grad_weights, out.grad_weights_dtype)),
        grad_biases(is_narrow(r, out, r.wanted.grad_biases, out.grad_biases_dtype)) {}
  bool inputs, grad_inputs, grad_weights, grad_biases;

 private:
  static bool is_narrow(const LossRequest& r, const LossOutputs& out, bool wanted, std::optional<DType> dtype) {
    return wanted && out.update == nullptr && dtype.value_or(r.dtype) != r.dtype;
  }
};

// What the sizes of the workspace depend on besides the task and the threads.
struct WorkspaceSizes {
  std::int64_t rows_of_batch, rows;
  std::int64_t scratch_elements;  // of one thread
  TileSizes tile;
  bool softmax;
  StripSizes strips;  // of a softmax
  WantedOutputs wanted;
  bool samples_distinct;
  std::int64_t rows_at_once;  // that a thread completes and hands over; 0: all rows have a place of their own
  NarrowArrays narrow;
};

// Rows that an optimizer takes at a time: few enough to stay in the L1 cache, and many enough to prefetch the table's.
inline std::int64_t rows_at_once(std::int64_t dim) { return std::clamp<std::int64_t>(4096 / (dim + 1), 1, 64); }

constexpr std::int64_t kMostLanes = 16;  // of a vector: a kernel may read as far beyond the maxima

// What one thread has to itself.
template <class T>
struct ThreadMemory {
  T* scratch;
  Strip<T> strip;  // of a softmax
  // Of several groups, for the samples of one.
  T* offsets;             // [S]
  std::int64_t* keys;     // [S], where classes have keys
  std::uint64_t* filter;  // 2^filter_bits(S) bits, where samples are removed
  // Where rows are handed over a few at a time.
  T* grad_weights;  // [rows_at_once, D]
  T* grad_biases;   // [rows_at_once]
};

// log2 of the size of a filter of as many keys: 32 to 64 bits for each, and never too many for a core's caches.
inline int filter_bits(std::int64_t keys) {
  return std::clamp(static_cast<int>(std::bit_width(static_cast<std::uint64_t>(keys))) + 5, 10, 19);
}

template <class T>
ThreadMemory<T> take_thread_memory(Carver& memory, const LossTask<T>& task, const WorkspaceSizes& sizes) {
  const StripSizes& strips = sizes.strips;
  ThreadMemory<T> own{};
  own.scratch = memory.take<T>(sizes.scratch_elements);
  if (sizes.wanted.grad_weights) own.grad_weights = memory.take<T>(sizes.rows_at_once * task.dim);
  if (sizes.wanted.grad_biases) own.grad_biases = memory.take<T>(sizes.rows_at_once);
  if (task.groups.count > 1) {
    own.offsets = memory.take<T>(task.num_sampled);
    if (task.removed.keys != nullptr) own.keys = memory.take<std::int64_t>(task.num_sampled);
    if (task.removed.any()) own.filter = memory.take<std::uint64_t>((1 << filter_bits(task.num_sampled)) / 64);
  }
  if (!sizes.softmax) return own;
  own.strip.example_tiles = strips.example_tiles;
  own.strip.x = memory.take<T>(strips.example_tiles * sizes.tile.x_elements);
  if (!strips.keeps) return own;
  own.strip.exps = memory.take<T>(strips.slots * strips.example_tiles * sizes.tile.logits_elements);
  own.strip.maxima = memory.take<T>(strips.slots * strips.example_tiles * sizes.tile.examples + kMostLanes);
  return own;
}

// Returns what belongs to thread `rank`.
template <class T>
ThreadMemory<T> take_workspace(Carver& memory, LossTask<T>& task, const WorkspaceSizes& sizes, const Schedule& schedule,
                               int threads, int rank = 0) {
  task.true_grad = memory.take<T>(task.num_entries());
  task.loss_sum = memory.take<double>(task.batch);
  if (!task.negative_weight.is_one()) {
    task.sampled_factor = memory.take<T>(sizes.rows_of_batch);
  } else {
    task.sampled_factor = task.grad_loss;
  }
  if (task.groups.count > 1) {
    if (sizes.wanted.rows()) task.group_grad = memory.take<T>(task.batch * task.num_sampled);
  } else {
    task.sampled_offset = memory.take<T>(task.num_sampled);
    // Where a class was sampled twice, two groups would add to one row of dW: then no team writes there directly, nor
    // where rows have no place of their own.
    const bool direct = sizes.samples_distinct && sizes.rows_at_once == 0;
    task.copies = schedule.teams;
    task.weight_copy_count = sizes.wanted.grad_weights ? schedule.teams - (direct ? 1 : 0) : 0;
    task.bias_copies = sizes.wanted.grad_biases ? memory.take<T>(task.copies * task.num_sampled) : nullptr;
    task.weight_copies = memory.take<T>(task.weight_copy_count * task.num_sampled * task.dim);
  }
  if (sizes.narrow.inputs) {
    task.inputs = memory.take<T>(sizes.rows_of_batch * task.dim);
    task.inputs_stride = task.dim;
  }
  if (sizes.narrow.grad_inputs) task.grad_inputs = memory.take<T>(sizes.rows_of_batch * task.dim);
  if (sizes.narrow.grad_weights) task.grad_weights = memory.take<T>(sizes.rows * task.dim);
  if (sizes.narrow.grad_biases) task.grad_biases = memory.take<T>(sizes.rows);
  if (sizes.softmax) {
    task.true_exp = memory.take<T>(task.num_entries());
    task.softmax_max = memory.take<T>(task.batch);
    task.softmax_sum = memory.take<double>(task.batch);
    task.softmax_factor = memory.take<T>(task.batch);
  }
  ThreadMemory<T> own{};
  for (int i = 0; i < threads; ++i) {
    const ThreadMemory<T> taken = take_thread_memory<T>(memory, task, sizes);
    if (i == rank) own = taken;
  }
  if (sizes.rows_at_once > 0) {
    task.grad_weights = own.grad_weights;
    task.grad_biases = own.grad_biases;
  }
  return own;
}

}  // namespace fastnce::cpu
