// Entry points of what is computed over all classes, on the CPU: check everything once, then call the backend.
#include "fastnce/evaluate.h"

#include "core/validate.h"
#include "cpu/all_classes/evaluate.h"
#include "cpu/all_classes/full_loss.h"
#include "fastnce/error.h"

namespace fastnce {

namespace {

void validate(const Scoring& scoring, const Targets& targets, const ClassLists& exclude) {
  const LossRequest request = request_of(scoring, targets, exclude);
  validate_shapes(request);
  validate_labels(request);
}

}  // namespace

void top_k(const Scoring& scoring, std::int64_t k, const ClassLists& exclude, void* scores, std::int64_t* ids,
           const Progress& progress) {
  validate(scoring, {.per_example = 0}, exclude);
  validate_k(k);
  require_array(scoring.batch * k, scores, "scores");
  require_array(scoring.batch * k, ids, "ids");
  cpu::top_k(scoring, k, exclude, progress, scores, ids);
}

void rank_of_labels(const Scoring& scoring, const Targets& targets, const ClassLists& exclude, double* ranks,
                    const Progress& progress) {
  validate(scoring, targets, exclude);
  require_array(targets.count(scoring.batch), ranks, "ranks");
  cpu::rank_of_labels(scoring, targets, exclude, progress, ranks);
}

void score_labels(const Scoring& scoring, const Targets& targets, void* scores, const Progress& progress) {
  validate(scoring, targets, {});
  require_array(targets.count(scoring.batch), scores, "scores");
  cpu::score_labels(scoring, targets, progress, scores);
}

void rank_of_scores(const Scoring& scoring, const ScoreLists& lists, const ClassLists& exclude, double* ranks,
                    const Progress& progress) {
  validate(scoring, {.per_example = 0}, exclude);
  require_array(1, lists.offsets, "scores.offsets");
  validate_offsets("scores", lists.offsets, scoring.batch, -1);
  require_array(lists.offsets[scoring.batch], lists.scores, "scores");
  require_array(lists.offsets[scoring.batch], ranks, "ranks");
  cpu::rank_of_scores(scoring, lists, exclude, progress, ranks);
}

void full_loss(const LossRequest& request, const LossOutputs& outputs, const Progress& progress) {
  validate_all_classes(request);
  validate_shapes(request);
  validate_labels(request);
  validate_dtypes(request, outputs);
  const WantedOutputs& wanted = request.wanted;
  require_array(wanted.loss ? request.batch : 0, outputs.loss, "loss");
  require_array(wanted.grad_inputs ? request.batch * request.dim : 0, outputs.grad_inputs, "grad_inputs");
  require_array(wanted.grad_weights ? request.dim : 0, outputs.grad_weights, "grad_weights");
  require_array(wanted.grad_biases ? 1 : 0, outputs.grad_biases, "grad_biases");
  require_array(wanted.log_sum_exp ? request.batch : 0, outputs.log_sum_exp, "log_sum_exp");
  cpu::full_loss(request, progress, outputs);
}

}  // namespace fastnce
