// Evaluation over all V classes, in tiles: never a [B, V] matrix. The score of a class is x[b] . w[k] + c[k]; it sums
// over d in an order that depends on nothing but the request's types, so that equal rows have equal scores, bit for
// bit, wherever they stand.
//
// All throw InvalidValue, naming argument, expected and got, unless the request can be computed.
#pragma once

#include <cstdint>

#include "fastnce/loss.h"
#include "fastnce/progress.h"

namespace fastnce {

// A list of scores for each example.
struct ScoreLists {
  const std::int64_t* offsets = nullptr;  // [B + 1], as in ClassLists
  const void* scores = nullptr;           // [n], of the compute dtype
  std::int64_t listed = 0;                // n; read on a CUDA device alone
};

// The k classes that score highest of those that an example does not exclude: falling scores [B, k] of the compute
// dtype and ids [B, k], ties by ascending id. A class whose score is NaN is none of them. Where fewer than k are left:
// -inf and -1.
void top_k(const Scoring& scoring, std::int64_t k, const ClassLists& exclude, void* scores, std::int64_t* ids,
           const Progress& progress = {});

// 1 + how many classes score higher than the label + half of those that tie with it; [B, T], or [n] of lists. Excluded
// classes do not compete; the example's other labels do. NaN if the label's score is not finite, or it is padding.
void rank_of_labels(const Scoring& scoring, const Targets& targets, const ClassLists& exclude, double* ranks,
                    const Progress& progress = {});

// The same in two steps, where labels are not among the classes that they compete with, as in one shard of a table: the
// scores of labels of the compute dtype, [B, T] or [n], NaN for padding; and the ranks of scores, [n].
void score_labels(const Scoring& scoring, const Targets& targets, void* scores, const Progress& progress = {});
void rank_of_scores(const Scoring& scoring, const ScoreLists& lists, const ClassLists& exclude, double* ranks,
                    const Progress& progress = {});

// The losses over all classes, each of which stands once:
//   logistic   loss[b] = sum_k softplus(v[b,k]) - sum_t q_t v[b,y_t]          q_t = r weight_t
//   softmax    loss[b] = -sum_t q_t log softmax(v[b])[y_t]
// Classes that the request excludes for an example are no term of any sum, unless they are its labels. `negatives` must
// be empty and `loss` at its defaults but for family and target. Gradients of tables are dense: grad_weights [V, D],
// grad_biases [V]. `parts` are those of other classes.
void full_loss(const LossRequest& request, const LossOutputs& outputs, const Progress& progress = {});

}  // namespace fastnce
