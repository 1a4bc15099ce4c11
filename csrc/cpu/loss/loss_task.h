// Kernel arguments of one call of a sampled loss: typed pointers plus workspace.
#pragma once

#include <cstdint>

#include "cpu/gemm/tile_shape.h"
#include "cpu/rows/table_view.h"
#include "cpu/runtime/interrupt.h"
#include "cpu/runtime/parallel.h"
#include "fastnce/loss.h"

namespace fastnce::cpu {

// True classes, as a list of entries: dense, T for each example, or without padding.
template <class T>
struct TargetsView {
  const std::int64_t* ids;      // the class of an entry
  const T* log_q;               // null: 0
  const T* weights;             // null: 1
  std::int64_t per_example;     // T where dense
  const std::int64_t* offsets;  // null: dense
  const std::int64_t* example;  // of an entry; null: dense
  const std::int64_t* counts;   // T of an example, of all parts of the loss; null: count(b)
  bool mean;                    // r is 1 / T, else 1

  [[gnu::always_inline]] std::int64_t begin(std::int64_t b) const {
    return offsets == nullptr ? b * per_example : offsets[b];
  }
  [[gnu::always_inline]] std::int64_t count(std::int64_t b) const { return begin(b + 1) - begin(b); }
  [[gnu::always_inline]] std::int64_t example_of(std::int64_t entry) const {
    return example == nullptr ? entry / per_example : example[entry];
  }
  [[gnu::always_inline]] T weight(std::int64_t entry) const { return weights == nullptr ? T{1} : weights[entry]; }
  [[gnu::always_inline]] std::int64_t count_of_all_parts(std::int64_t b) const {
    return counts == nullptr ? count(b) : counts[b];
  }
  [[gnu::always_inline]] T target(std::int64_t b) const {
    return mean ? T{1} / static_cast<T>(count_of_all_parts(b)) : T{1};
  }
};

// Samples that examples remove. Those of example b are of the classes e in [first(b), first(b + 1)): its true classes
// or, with `offsets`, others. Class e is of group g, whose samples are positions[begin[g] .. begin[g + 1]), ascending.
// Null `group`: nothing is removed.
struct HitLists {
  const std::int64_t* offsets = nullptr;  // null: per_example classes for each example
  std::int64_t per_example = 0;
  const std::int64_t* group = nullptr;  // of a class; negative: no samples
  const std::int64_t* begin = nullptr;
  const std::int64_t* positions = nullptr;

  [[gnu::always_inline]] std::int64_t first(std::int64_t b) const {
    return offsets == nullptr ? b * per_example : offsets[b];
  }
};

// Which examples each group of samples serves, where there are several groups.
struct GroupView {
  std::int64_t count = 1;                 // G
  std::int64_t size = 0;                  // B / G
  const std::int64_t* offsets = nullptr;  // [G + 1]: the examples of each group; null: `size` for each

  [[gnu::always_inline]] std::int64_t begin(std::int64_t g) const { return offsets == nullptr ? g * size : offsets[g]; }
  [[gnu::always_inline]] Range examples(std::int64_t g) const { return {begin(g), begin(g + 1)}; }
};

// What examples remove, where there are several groups: the samples of the group are compared with these as the group
// is computed. A list of hits, as for one group, would take as much time and memory for all G S samples.
struct RemovedClasses {
  bool labels = false;                    // the example's true classes
  const std::int64_t* ids = nullptr;      // and, by keys, of row r of the batch those at [offsets[r], offsets[r + 1])
  const std::int64_t* offsets = nullptr;  // null: none
  const std::int64_t* keys = nullptr;     // of a class; null: the class itself

  [[gnu::always_inline]] bool any() const { return labels || offsets != nullptr; }
  [[gnu::always_inline]] std::int64_t key(std::int64_t id) const { return keys == nullptr ? id : keys[id]; }
};

// The samples of one of several groups as the thread that computes it sees them, and what it keeps for the rows.
template <class T>
struct GroupSamples {
  std::int64_t following = 0;          // samples of later groups that follow in `sampled`: worth prefetching
  const std::int64_t* keys = nullptr;  // [S] of the samples; null: nothing is removed
  std::uint64_t* filter = nullptr;     // Bloom filter of `keys`; null: lists are too short to need one
  int filter_bits = 0;                 // log2 of its size
  T* grad = nullptr;                   // G [S, examples of the group]; null: not kept
  Range examples{0, 0};                // of the group
};

// A number for each example of the batch, or one for all.
template <class T>
struct FactorView {
  const T* values;
  T all;
  [[gnu::always_inline]] bool is_one() const { return values == nullptr && all == T{1}; }
  [[gnu::always_inline]] T of(std::int64_t row) const { return values != nullptr ? values[row] : all; }
};

// Examples are those that take part; row_of_batch() says where the arrays of the batch have them.
template <class T>
struct LossTask {
  std::int64_t batch, dim, num_sampled;
  std::int64_t l2_bytes;  // of the processor's L2 cache
  TableView weights;
  TableView biases;
  TargetsView<T> targets;
  const std::int64_t* examples;  // null: all of the batch
  const T* inputs;
  std::int64_t inputs_stride;
  const std::int64_t* sampled;  // z [G, S]
  const T* sampled_log_q;       // likewise; null: 0
  const T* grad_loss;           // null: 1
  FactorView<T> positive_weight, negative_weight;
  OtherParts parts;        // by rows of the batch
  HitLists hits;           // of one group
  RemovedClasses removed;  // of several
  GroupView groups;
  Interruption* interruption;

  // Outputs; null: not wanted.
  T* loss;
  T* grad_inputs;
  T* grad_weights;
  T* grad_biases;
  double* log_sum_exp;     // of a softmax
  std::int64_t first_row;  // the row that grad_weights and grad_biases begin with

  // The row plan; null if no row gradients are wanted.
  const std::int64_t* row_offsets;
  const std::int64_t* row_entries;
  const std::int64_t* sampled_row;

  // Workspace. What one phase writes a later one reads, with a barrier between.
  T* true_grad;             // [entries]: dloss/du, times the upstream factor
  double* loss_sum;         // [batch]: loss so far; float64, so that the number of tiles does not show in the result
  const T* sampled_factor;  // by rows of the batch: what multiplies dloss/dv of a loss without weights; null: 1
  T* sampled_offset;        // [S]: bias - log Q
  T* group_grad;     // of several groups: G of group g, [S, its examples], from its first example times S; or null
  T* bias_copies;    // [copies, S]: sums of G over the examples of one team
  T* weight_copies;  // [weight_copy_count, S, D]: G^T X of the teams that do not write to grad_weights directly
  std::int64_t copies;
  std::int64_t weight_copy_count;
  // Of the softmax: the largest logit so far, the sum of exp(v - largest) over the samples and the other parts, and
  // what exp(v - largest) is multiplied by to make dloss/dv, the upstream factor included.
  T* true_exp;          // [entries]: exp(u - largest)
  T* softmax_max;       // [batch]
  double* softmax_sum;  // [batch]; float64, as loss_sum
  T* softmax_factor;    // [batch]

  // Of the group that a thread computes, where there are several: then `sampled`, `sampled_log_q` and `sampled_offset`
  // are those of the group.
  GroupSamples<T> group;

  PlaneShape plane() const {
    return {groups.count > 1 ? groups.size : batch, num_sampled, dim, grad_inputs != nullptr, l2_bytes};
  }
  [[gnu::always_inline]] bool wants_rows() const { return grad_weights != nullptr || grad_biases != nullptr; }
  [[gnu::always_inline]] T* grad_weights_row(std::int64_t r) const { return grad_weights + (r - first_row) * dim; }
  [[gnu::always_inline]] T& grad_bias_of(std::int64_t r) const { return grad_biases[r - first_row]; }
  [[gnu::always_inline]] bool wants_gradients() const {
    return grad_inputs != nullptr || wants_rows() || group.grad != nullptr;
  }
  [[gnu::always_inline]] std::int64_t num_entries() const { return targets.begin(batch); }
  [[gnu::always_inline]] std::int64_t row_of_batch(std::int64_t b) const {
    return examples == nullptr ? b : examples[b];
  }
  [[gnu::always_inline]] const T* input(std::int64_t b) const { return inputs + row_of_batch(b) * inputs_stride; }
  [[gnu::always_inline]] T* grad_input(std::int64_t b) const { return grad_inputs + row_of_batch(b) * dim; }
  [[gnu::always_inline]] T upstream(std::int64_t b) const {
    return grad_loss != nullptr ? grad_loss[row_of_batch(b)] : T{1};
  }
};

// Where one team of threads adds the gradients of sampled rows.
template <class T>
struct TeamSums {
  T* bias;     // [S]
  T* weights;  // [S, D], or null: straight into the rows of grad_weights
};

// What one thread keeps of the examples of a softmax strip between its two passes: packed X of each tile of examples
// and, for each tile of samples (a slot), the exponentials of all, each with the maxima they are relative to.
template <class T>
struct Strip {
  std::int64_t example_tiles;
  T* x;       // [example_tiles, x_elements]
  T* exps;    // [slots, example_tiles, logits_elements]; null: nothing is kept
  T* maxima;  // [slots, example_tiles, examples of a tile]
};

}  // namespace fastnce::cpu
