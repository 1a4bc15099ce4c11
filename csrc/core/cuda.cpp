// Entry points of the CUDA backend: check what can be checked without reading device memory, then call the backend, or
// its stand-ins (no_cuda.cpp).
#include "fastnce/cuda.h"

#include <algorithm>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "core/optimizer.h"
#include "core/validate.h"
#include "fastnce/error.h"

#include "cuda/all_classes/evaluate.h"
#include "cuda/loss/loss.h"
#include "cuda/rows/update.h"
#include "cuda/runtime/copy.h"
#include "cuda/runtime/ids.h"
#include "cuda/runtime/limits.h"
#include "cuda/runtime/runtime.h"
#include "cuda/sampler/sampler.h"
#include "math/distribution/registry.h"

namespace fastnce::cuda {

namespace {

void require_device(int device) {
  const std::string reason = unavailable_reason();
  if (!reason.empty()) throw InvalidValue(concat("a CUDA device is asked for, but ", reason));
  const int count = runtime::device_count();
  if (device < 0 || device >= count) {
    throw InvalidValue(concat("device = ", device, ": expected 0 to ", count - 1, ", a CUDA device of this machine"));
  }
  const Device found = runtime::properties(device);
  if (!runtime::is_capable(found)) {
    throw InvalidValue(concat("device = ", device, " (", found.name, ") has compute capability ", found.major, ".",
                              found.minor, ": expected at least ", runtime::kLeastCapability, ".0"));
  }
}

void require_at_most(std::int64_t most, const char* argument, std::int64_t value) {
  if (value > most)
    throw InvalidValue(concat(argument, " = ", value, ": expected at most ", most, " on a CUDA device"));
}

// Tiles of sampled classes run along a side of the grid that ends at 65535.
constexpr std::int64_t kMostSamples = 1 << 22;

void validate_for_device(const SamplerParams& params) {
  validate(params);
  math::with_distribution(params.distribution, []<class D>(const D&) {
    if constexpr (!D::kOnDevice) {
      std::string sampler = std::is_same_v<D, math::All> ? "sampler of all classes" : concat(D::kName, " sampler");
      std::ranges::replace(sampler, '_', ' ');
      throw InvalidValue(
          concat("a ", sampler, " on a CUDA device: expected arrays on the CPU, where it is implemented"));
    }
  });
  require_at_most(kMostEntries, "num_sampled", params.num_sampled);
}

void validate_for_device(const SampleRequest& request) {
  if (request.sources.size() != 1 || request.exclude.offsets != nullptr) {
    throw InvalidValue("sources and exclude: expected one source and no lists on a CUDA device");
  }
  validate_for_device(request.sources[0]);
  validate_groups(request.groups, request.batch);
  require_at_most(kMostEntries, "num_groups * num_sampled", request.groups * request.num_sampled());
}

// Of one set, for labels that need no examples.
SampleRequest one_set(const SamplerParams& params, std::span<const std::int64_t> labels = {}) {
  return {.sources = {&params, 1}, .batch = 1, .true_classes = labels};
}

void validate_for_device(const LossRequest& r) {
  if (r.dtype != DType::kFloat32) throw InvalidValue("dtype: expected kFloat32 on a CUDA device");
  validate_shapes(r);
  const std::int64_t num_labels = r.targets.count(r.batch);
  require_at_most(kMostSamples, "num_sampled", r.negatives.count);
  require_at_most(kMostClasses, "num_classes", r.num_classes);
  require_at_most(kMostEntries, "batch", r.batch);
  require_at_most(kMostEntries, "num_true", r.targets.per_example);
  // A row's entry is a sample or, where groups have samples of their own, one for each example.
  const std::int64_t entries = r.negatives.count * (r.negatives.groups > 1 ? r.batch : 1);
  require_at_most(kMostEntries, "number of labels + num_sampled", num_labels + entries);
  require_at_most(kMostEntries, "num_groups * num_sampled", r.negatives.total());
  require_at_most(kMostShards, "number of shards of weights", std::ssize(r.weights.shards));
  require_at_most(kMostShards, "number of shards of biases", std::ssize(r.biases.shards));
  if (r.negatives.sampler) validate_for_device(*r.negatives.sampler);
}

}  // namespace

bool built() { return runtime::built(); }
std::string unavailable_reason() { return runtime::unavailable_reason(); }

std::vector<Device> devices() {
  std::vector<Device> found;
  if (unavailable_reason().empty()) {
    for (int i = 0; i < runtime::device_count(); ++i) found.push_back(runtime::properties(i));
  }
  return found;
}

std::size_t workspace_bytes(const SamplerParams& params) { return workspace_bytes(one_set(params)); }

std::size_t workspace_bytes(const SampleRequest& request) {
  validate_for_device(request);
  return sampler_workspace_bytes(request);
}

void sample_candidates(const SamplerParams& params, std::uint64_t* calls, const std::int64_t* labels,
                       std::int64_t num_labels, const Candidates& candidates, const Workspace& workspace,
                       const Stream& stream) {
  if (num_labels < 0 || (num_labels > 0 && labels == nullptr)) {
    throw InvalidValue(concat("labels: expected an array of num_labels = ", num_labels, " ids, not null"));
  }
  const std::span all(labels, static_cast<std::size_t>(num_labels));
  sample(one_set(params, all), calls, candidates, workspace, stream);
}

void sample(const SampleRequest& request, std::uint64_t* calls, const Candidates& candidates,
            const Workspace& workspace, const Stream& stream) {
  validate_for_device(request);
  require_device(stream.device);
  if (candidates.sampled == nullptr) throw InvalidValue("candidates.sampled: expected an array, not null");
  const runtime::CurrentDevice current(stream.device);
  queue_candidates(request, calls, candidates, workspace, stream);
}

std::size_t table_bytes(const Distribution& distribution) {
  if (distribution.kind != math::kind_of<math::Unigram>()) return 0;
  return static_cast<std::size_t>(distribution.range_max) * (sizeof(float) + 2 * sizeof(std::uint32_t));
}

Distribution copy_tables(const Distribution& distribution, void* memory, const Stream& stream) {
  if (distribution.kind != math::kind_of<math::Unigram>()) return distribution;
  validate({.distribution = distribution, .num_sampled = 1, .unique = false});
  if (memory == nullptr) throw InvalidValue("memory: expected table_bytes() bytes on the device, not null");
  require_device(stream.device);
  const runtime::CurrentDevice current(stream.device);
  const auto classes = static_cast<std::size_t>(distribution.range_max);
  auto* const alias_table = static_cast<std::uint32_t*>(memory);
  auto* const weights = reinterpret_cast<float*>(alias_table + 2 * classes);
  runtime::copy_to_device(alias_table, distribution.unigram.alias_table, 2 * classes * sizeof *alias_table, stream);
  runtime::copy_to_device(weights, distribution.unigram.weights, classes * sizeof *weights, stream);
  Distribution copy = distribution;
  copy.unigram.alias_table = alias_table;
  copy.unigram.weights = weights;
  return copy;
}

LossPlan plan(const LossRequest& request, int device) {
  validate_for_device(request);
  require_device(device);
  const runtime::CurrentDevice current(device);
  return plan_loss(request, device);
}

LossPlan plan_full_loss(const LossRequest& request, int device) {
  validate_all_classes(request);
  validate_for_device(request);
  if (request.num_classes > kMostSamples) {
    throw InvalidValue(concat("num_classes = ", request.num_classes, ": expected at most ", kMostSamples,
                              " on a CUDA device, for a loss over all classes"));
  }
  require_at_most(kMostEntries, "number of labels + num_classes",
                  request.targets.count(request.batch) + request.num_classes);
  require_device(device);
  LossRequest all = request;
  all.negatives.count = request.num_classes;
  all.loss.remove_accidental_hits = true;
  const runtime::CurrentDevice current(device);
  return plan_loss(all, device, true);
}

void run(const LossPlan& plan, const LossOutputs& outputs, const Workspace& workspace, const Stream& stream) {
  require_device(stream.device);
  const runtime::CurrentDevice current(stream.device);
  queue_loss(plan, outputs, workspace, stream);
}

namespace {

void validate_for_device(const Scoring& scoring, const Targets& targets, const ClassLists& exclude) {
  validate_for_device(request_of(scoring, targets, exclude));
}

void validate_top_k(const Scoring& scoring, std::int64_t k, const ClassLists& exclude) {
  validate_for_device(scoring, {.per_example = 0}, exclude);
  validate_k(k);
}

void validate_score_lists(const Scoring& scoring, const ScoreLists& lists, const ClassLists& exclude) {
  validate_for_device(scoring, {.per_example = 0}, exclude);
  if (lists.listed < 0) throw InvalidValue(concat("scores: expected at least 0 of them, not ", lists.listed));
  require_at_most(kMostEntries, "number of scores", lists.listed);
  require_array(1, lists.offsets, "scores.offsets");
  require_array(lists.listed, lists.scores, "scores");
}

}  // namespace

std::size_t top_k_workspace_bytes(const Scoring& scoring, std::int64_t k, const ClassLists& exclude, int device) {
  validate_top_k(scoring, k, exclude);
  require_device(device);
  const runtime::CurrentDevice current(device);
  return top_k_bytes(scoring, k, exclude, device);
}

void top_k(const Scoring& scoring, std::int64_t k, const ClassLists& exclude, float* scores, std::int64_t* ids,
           const Workspace& workspace, const Stream& stream) {
  validate_top_k(scoring, k, exclude);
  require_array(scoring.batch * k, scores, "scores");
  require_array(scoring.batch * k, ids, "ids");
  require_device(stream.device);
  const runtime::CurrentDevice current(stream.device);
  queue_top_k(scoring, k, exclude, scores, ids, workspace, stream);
}

std::size_t rank_of_labels_workspace_bytes(const Scoring& scoring, const Targets& targets, const ClassLists& exclude,
                                           int device) {
  validate_for_device(scoring, targets, exclude);
  require_device(device);
  const runtime::CurrentDevice current(device);
  return ranks_bytes(scoring, targets, exclude, device);
}

void rank_of_labels(const Scoring& scoring, const Targets& targets, const ClassLists& exclude, double* ranks,
                    const Workspace& workspace, const Stream& stream) {
  validate_for_device(scoring, targets, exclude);
  require_array(targets.count(scoring.batch), ranks, "ranks");
  require_device(stream.device);
  const runtime::CurrentDevice current(stream.device);
  queue_ranks(scoring, targets, exclude, ranks, workspace, stream);
}

std::size_t score_labels_workspace_bytes(const Scoring& scoring, const Targets& targets, int device) {
  validate_for_device(scoring, targets, {});
  require_device(device);
  const runtime::CurrentDevice current(device);
  return label_scores_bytes(scoring, targets, device);
}

void score_labels(const Scoring& scoring, const Targets& targets, float* scores, const Workspace& workspace,
                  const Stream& stream) {
  validate_for_device(scoring, targets, {});
  require_array(targets.count(scoring.batch), scores, "scores");
  require_device(stream.device);
  const runtime::CurrentDevice current(stream.device);
  queue_label_scores(scoring, targets, scores, workspace, stream);
}

std::size_t rank_of_scores_workspace_bytes(const Scoring& scoring, const ScoreLists& lists, const ClassLists& exclude,
                                           int device) {
  validate_score_lists(scoring, lists, exclude);
  require_device(device);
  const runtime::CurrentDevice current(device);
  return ranks_bytes(scoring, lists, exclude, device);
}

void rank_of_scores(const Scoring& scoring, const ScoreLists& lists, const ClassLists& exclude, double* ranks,
                    const Workspace& workspace, const Stream& stream) {
  validate_score_lists(scoring, lists, exclude);
  require_array(lists.listed, ranks, "ranks");
  require_device(stream.device);
  const runtime::CurrentDevice current(stream.device);
  queue_ranks(scoring, lists, exclude, ranks, workspace, stream);
}

namespace {

void validate_for_device(const Scoring& tables, const GradientRows& rows) {
  LossRequest request = request_of(tables, {.per_example = 0}, {});
  request.batch = 0;
  validate_for_device(request);
  validate_row_arrays(rows, request);
  require_at_most(kMostEntries, "number of rows", rows.count);
  if (rows.biases_dtype.value_or(DType::kFloat32) != DType::kFloat32) {
    throw InvalidValue("bias_rows_dtype: expected kFloat32 on a CUDA device");
  }
}

void validate_for_device(const RowUpdate& update, const Scoring& tables, const GradientRows& rows) {
  validate_for_device(tables, rows);
  validate_update(update, tables, rows);
}

}  // namespace

std::size_t update_rows_workspace_bytes(const Scoring& tables, const GradientRows& rows, int device) {
  validate_for_device(tables, rows);
  require_device(device);
  const runtime::CurrentDevice current(device);
  return update_rows_bytes(tables, rows);
}

void update_rows(const RowUpdate& update, const Scoring& tables, const GradientRows& rows, const Workspace& workspace,
                 const Stream& stream) {
  validate_for_device(update, tables, rows);
  require_device(stream.device);
  const runtime::CurrentDevice current(stream.device);
  queue_update_rows(update, tables, rows, workspace, stream);
}

void update_complete_rows(const RowUpdate& update, const Scoring& tables, const GradientRows& rows,
                          const std::int64_t* row_count, const Stream& stream) {
  validate_for_device(update, tables, rows);
  require_array(1, row_count, "row_count");
  const bool contiguous = rows.weights_stride == tables.dim;
  if (rows.weights != nullptr && (!contiguous || rows.weights_dtype.value_or(DType::kFloat32) != DType::kFloat32)) {
    throw InvalidValue("rows: expected contiguous float32 gradients, as a loss leaves them");
  }
  require_device(stream.device);
  const runtime::CurrentDevice current(stream.device);
  queue_update_complete_rows(update, tables, rows, row_count, stream);
}

void copy_ids(const IdArray& ids, std::int64_t* to, const Stream& stream) {
  if (ids.bytes != 1 && ids.bytes != 2 && ids.bytes != 4 && ids.bytes != 8) {
    throw InvalidValue(concat("ids.bytes = ", ids.bytes, ": expected 1, 2, 4 or 8"));
  }
  require_device(stream.device);
  const runtime::CurrentDevice current(stream.device);
  queue_copy_ids(ids, to, stream);
}

void copy_rows(const RowArray& rows, void* to, const Stream& stream) {
  if (rows.element_bytes != 2 && rows.element_bytes != 4) {
    throw InvalidValue(concat("rows.element_bytes = ", rows.element_bytes, ": expected 2 or 4"));
  }
  require_device(stream.device);
  const runtime::CurrentDevice current(stream.device);
  queue_copy_rows(rows, to, stream);
}

void fill(float value, std::int64_t count, float* to, const Stream& stream) {
  require_device(stream.device);
  const runtime::CurrentDevice current(stream.device);
  queue_fill(value, count, to, stream);
}

void count_up(std::int64_t count, std::int64_t* to, const Stream& stream) {
  require_device(stream.device);
  const runtime::CurrentDevice current(stream.device);
  queue_count_up(count, to, stream);
}

void check(int device) {
  require_device(device);
  const runtime::CurrentDevice current(device);
  check_ids();
}

void* allocate(std::size_t bytes, const Stream& stream) {
  require_device(stream.device);
  const runtime::CurrentDevice current(stream.device);
  return runtime::allocate(bytes, stream);
}

void release(void* memory, const Stream& stream) {
  const runtime::CurrentDevice current(stream.device);
  runtime::release(memory, stream);
}

std::int64_t read(const std::int64_t* value, const Stream& stream) {
  require_device(stream.device);
  const runtime::CurrentDevice current(stream.device);
  return runtime::read(value, stream);
}

void write(std::int64_t value, std::int64_t* to, const Stream& stream) {
  require_device(stream.device);
  const runtime::CurrentDevice current(stream.device);
  // Byte by byte: nothing on the host has to outlive the call.
  for (int i = 0; i < 8; ++i) {
    runtime::fill_bytes(reinterpret_cast<std::byte*>(to) + i, static_cast<int>(value >> 8 * i & 0xFF), 1, stream);
  }
}

void wait_for(const Stream& waiting, const Stream& producing) {
  require_device(waiting.device);
  const runtime::CurrentDevice current(waiting.device);
  runtime::wait_for(waiting, producing);
}

void synchronize(const Stream& stream) {
  require_device(stream.device);
  const runtime::CurrentDevice current(stream.device);
  runtime::synchronize(stream);
}

void synchronize_device(int device) {
  require_device(device);
  const runtime::CurrentDevice current(device);
  runtime::synchronize_device();
}

}  // namespace fastnce::cuda
