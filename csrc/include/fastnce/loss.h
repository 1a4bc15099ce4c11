// The sampled losses: value and gradients in one pass over tiles, never a [B, S] matrix.
//
//   u[b,t] = x[b] . w[y[b,t]] + c[y[b,t]] - log Q(y[b,t])      v[b,s] = x[b] . w[z[g,s]] + c[z[g,s]] - log Q(z[g,s])
//   logistic   loss[b] = sum_t a (softplus(u[b,t]) - r u[b,t])  +  sum_s m softplus(v[b,s])
//   softmax    loss[b] = -sum_t r log softmax([u[b], v[b]])[t]
//
// g is the group of the example: all share one set of samples, each has its own, or anything between.
//
// With g = dloss/dlogit times the upstream factor of the example: dX = G_true W_y + G W_z, dW_z = G^T X, and so on.
//
// A call has two halves. plan() checks the request, draws candidates where none are given, and finds out how many rows
// the gradients have; run() computes into arrays of those sizes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "fastnce/rows.h"
#include "fastnce/sampler.h"
#include "fastnce/types.h"

namespace fastnce {

// A number for each example, or one for all.
struct ExampleFactor {
  const void* values = nullptr;  // [B] of the compute dtype; null: `all`
  double all = 1.0;
};

enum class LossFamily : std::uint8_t { kLogistic, kSoftmax };
enum class TrueTarget : std::uint8_t { kMean, kOne };  // r: 1 / T or 1

// Which loss. The default is tf.nn.nce_loss.
struct Loss {
  LossFamily family = LossFamily::kLogistic;
  TrueTarget true_target = TrueTarget::kMean;
  ExampleFactor positive_weight = {}, negative_weight = {};  // a and m of the logistic family
  bool remove_accidental_hits = false;  // sampled classes equal to a true class of the example contribute nothing
};

// The true classes: T for each example or, beside offsets, a list of any length. Examples whose labels are all padding,
// or whose list is empty, contribute nothing; T in 1 / T is the number of labels that are no padding. Expected counts,
// their logarithms and weights are not read where a label is padding.
struct Targets {
  std::int64_t per_example = 1;              // T; not read beside offsets
  const std::int64_t* ids = nullptr;         // y [B, T] or [n], each in [0, V) or equal to `padding`
  const std::int64_t* offsets = nullptr;     // [B + 1], as in ClassLists; null: T for each example
  std::int64_t listed = 0;                   // n, the length of `ids` beside offsets
  const void* expected_count = nullptr;      // Q(y), one for each id, positive and finite; null: Q = 1
  const void* log_q = nullptr;               // or log Q(y), finite
  const void* weights = nullptr;             // multiply the terms of a label; in the softmax q_t = r weight; null: 1
  std::optional<std::int64_t> padding = {};  // an id that stands for no class

  std::int64_t count(std::int64_t batch) const { return offsets != nullptr ? listed : batch * per_example; }
  std::int64_t begin(std::int64_t b) const { return offsets != nullptr ? offsets[b] : b * per_example; }
};

// The sampled classes: given, or drawn by plan(). Group g of the G groups serves the examples [g B / G, (g + 1) B / G);
// one group is shared by all.
struct Negatives {
  std::int64_t groups = 1;               // G, a divisor of B
  std::int64_t count = 0;                // S
  const std::int64_t* ids = nullptr;     // z [G, S], each in [0, V)
  const void* expected_count = nullptr;  // Q(z) [G, S], as above but for samples that every example removes
  const void* log_q = nullptr;           // or log Q(z), likewise
  // Draws in place of `ids`; its counts are Q. Its num_sampled is S, its range_max V.
  std::optional<SamplerParams> sampler = {};
  std::uint64_t* calls = nullptr;  // on a CUDA device: where the call is counted, as in sample_candidates()

  std::int64_t total() const { return groups * count; }
};

// What a call has to know of the other parts of a loss whose classes are spread over several calls, as over the shards
// of a table: each part has some of the labels and some of the samples of the same examples. Losses and gradients of
// inputs are then shares, which add up over the parts. A logistic loss is a sum over its classes and needs the counts
// alone; a softmax needs two calls: the first for the log_sum_exp of each part, the second with those of the others.
// On a CUDA device the arrays are there.
struct OtherParts {
  // T [B]: the labels of an example, padding not counted, in all parts and this one. Examples with 0 contribute
  // nothing. A smaller number than that of this part is refused; a CUDA device, which does not check it, leaves out
  // examples with 0 or less. Null: there are no other parts.
  const std::int64_t* label_count = nullptr;
  const double* label_weight = nullptr;  // [B], of a softmax: the sum of the labels' weights; null: label_count
  // [B], of a softmax: of the logits of the other parts, u and v; -inf: they have none. Null: as if all were -inf.
  const double* log_sum_exp = nullptr;
};

struct WantedOutputs {
  bool loss = true, grad_inputs = false, grad_weights = false, grad_biases = false;
  bool log_sum_exp = false;
  bool rows() const { return grad_weights || grad_biases; }
  bool gradients() const { return grad_inputs || rows(); }
};

// What scores x . w + c are computed from. Arrays are dense and row-major unless a stride is given; element types are
// `dtype` unless noted.
struct Scoring {
  DType dtype = DType::kFloat32;  // of the computation: kFloat32 or kFloat64
  // Element types of tables and inputs where they are not `dtype`: kFloat16 or kBFloat16 beside kFloat32.
  std::optional<DType> weights_dtype = {}, biases_dtype = {}, inputs_dtype = {};
  Precision precision = Precision::kHighest;  // of products over the sampled classes
  std::int64_t batch = 0;                     // B
  std::int64_t dim = 0;                       // D
  std::int64_t num_classes = 0;               // V, at most the number of rows of the tables
  Table weights;                              // [>= V, D]
  Table biases;                               // [>= V]; no shards: no biases
  const void* inputs = nullptr;               // x [B, D]
  std::int64_t inputs_stride = 0;             // elements from one row of x to the next; 0 repeats one row
};

// All of one call but its results.
struct LossRequest : Scoring {
  Loss loss;
  Targets targets;
  Negatives negatives;
  // What tells classes apart where sampled ones are removed: two with the same key are one. [V]; null: the class.
  const std::int64_t* class_keys = nullptr;
  ClassLists exclude;  // keys of sampled classes that contribute nothing to an example, hits or not; log Q is as it is
  double temperature = 1.0;  // x is divided by it
  OtherParts parts;
  const void* grad_loss = nullptr;  // upstream factor per example [B]; null means 1. The loss is not scaled.
  WantedOutputs wanted;

  bool removes_samples() const { return loss.remove_accidental_hits || exclude.offsets != nullptr; }
};

struct RowUpdate;  // fastnce/optimizer.h

// Where results go; what was not wanted is not touched. Gradients of another type than the compute dtype are summed up
// in that and rounded once.
struct LossOutputs {
  void* loss = nullptr;          // [B]
  void* grad_inputs = nullptr;   // dX [B, D]
  void* grad_weights = nullptr;  // [rows, D]: row r is the gradient of class row_ids[r]
  void* grad_biases = nullptr;   // [rows]
  // In place of grad_weights and grad_biases, as far as they are wanted: an optimizer that takes each row once it is
  // complete and updates the tables of the request, which are written to. All that the call computes is of the tables
  // as they were before it. A call that is interrupted has updated all rows or none. On the CPU alone.
  const RowUpdate* update = nullptr;
  // [B], of a softmax: the log of the sum of exp(logit), of this part and of parts.log_sum_exp; 0 where an example
  // contributes nothing. On a CUDA device NaN where the loss is.
  double* log_sum_exp = nullptr;
  std::optional<DType> grad_inputs_dtype = {}, grad_weights_dtype = {}, grad_biases_dtype = {};
  // On a CUDA device alone. All row outputs there have room for B T + G S rows, of which the first n are used; the
  // others repeat the last id with zero gradients.
  std::int64_t* row_ids = nullptr;    // [B T + G S]: ids, ascending
  std::int64_t* row_count = nullptr;  // [1]: n
};

// A request that was checked, with its candidates and rows. It refers to the arrays of the request.
class LossPlan {
 public:
  struct Contents;

  LossPlan();
  LossPlan(LossPlan&&) noexcept;
  LossPlan& operator=(LossPlan&&) noexcept;
  ~LossPlan();

  // The rows of grad_weights and grad_biases; none if neither is wanted.
  std::span<const std::int64_t> row_ids() const;

 private:
  friend void plan(const LossRequest& request, LossPlan& plan);
  friend void run(const LossPlan& plan, const LossOutputs& outputs);
  std::unique_ptr<Contents> contents_;
};

// Throws InvalidValue, naming argument, expected and got, unless the request can be computed. The second form
// overwrites a plan and reuses its memory.
LossPlan plan(const LossRequest& request);
void plan(const LossRequest& request, LossPlan& plan);

// The checks of plan(), but for those of candidates that are still to be drawn; draws nothing.
void validate(const LossRequest& request);

// Computes the outputs that the request names. Throws InvalidValue if an output is missing; nothing is written then.
void run(const LossPlan& plan, const LossOutputs& outputs);

}  // namespace fastnce
