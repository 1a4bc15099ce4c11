// Entry points of the sampled losses on the CPU: check everything once, then call the backend.
#include "fastnce/loss.h"

#include "core/candidates.h"
#include "core/optimizer.h"
#include "core/validate.h"
#include "cpu/loss/loss.h"
#include "cpu/rows/row_plan.h"
#include "fastnce/error.h"

namespace fastnce {

struct LossPlan::Contents {
  LossRequest request;
  Candidates candidates;
  cpu::LossPlan prepared;
};

LossPlan::LossPlan() : contents_(std::make_unique<Contents>()) {}
LossPlan::LossPlan(LossPlan&&) noexcept = default;
LossPlan& LossPlan::operator=(LossPlan&&) noexcept = default;
LossPlan::~LossPlan() = default;

std::span<const std::int64_t> LossPlan::row_ids() const { return contents_->prepared.rows.ids; }

void validate(const LossRequest& request) {
  validate_shapes(request);
  validate_labels(request);
  request.negatives.sampler ? validate(*request.negatives.sampler) : validate_candidates(request);
}

LossPlan plan(const LossRequest& request) {
  LossPlan made;
  plan(request, made);
  return made;
}

void plan(const LossRequest& request, LossPlan& plan) {
  validate(request);
  LossPlan::Contents& made = *plan.contents_;
  made.request = request;
  made.candidates.prepare(request);
  cpu::plan_loss(request,
                 {.sampled = made.candidates.sampled(),
                  .true_log_q = made.candidates.true_log_q(),
                  .sampled_log_q = made.candidates.sampled_log_q()},
                 made.prepared);
}

void run(const LossPlan& plan, const LossOutputs& outputs) {
  const LossPlan::Contents& made = *plan.contents_;
  const LossRequest& request = made.request;
  validate_dtypes(request, outputs);
  const bool has_rows = !made.prepared.rows.ids.empty();
  const auto require = [](bool wanted, std::int64_t elements, const void* array, const char* name) {
    if (wanted && elements > 0 && array == nullptr) throw InvalidValue(concat(name, ": expected an array, not null"));
  };
  require(request.wanted.loss, request.batch, outputs.loss, "loss");
  require(request.wanted.grad_inputs, request.batch * request.dim, outputs.grad_inputs, "grad_inputs");
  if (outputs.update != nullptr) {
    validate_update(*outputs.update, request, request.wanted.grad_weights, request.wanted.grad_biases);
  } else {
    require(request.wanted.grad_weights, has_rows ? request.dim : 0, outputs.grad_weights, "grad_weights");
    require(request.wanted.grad_biases, has_rows, outputs.grad_biases, "grad_biases");
  }
  require(request.wanted.log_sum_exp, request.batch, outputs.log_sum_exp, "log_sum_exp");
  cpu::run_loss(request, made.prepared, outputs);
}

RowPlan plan_rows(std::span<const std::int64_t> labels, std::span<const std::int64_t> sampled) {
  RowPlan plan;
  plan_rows(labels, sampled, plan);
  return plan;
}

void plan_rows(std::span<const std::int64_t> labels, std::span<const std::int64_t> sampled, RowPlan& plan) {
  cpu::plan_rows(labels, sampled, plan);
}

}  // namespace fastnce
