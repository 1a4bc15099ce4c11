// Entry points of the sampled loss: check everything once, for every backend, then call the backend.
#include "fastnce/sampled_loss.h"

#include <algorithm>
#include <string>

#include "core/validate.h"
#include "cpu/row_plan.h"
#include "cpu/sampled_loss.h"
#include "fastnce/error.h"
#include "math/expected_count.h"

namespace fastnce {

namespace {

void require_at_least(std::int64_t least, const char* argument, std::int64_t value) {
  if (value < least) throw InvalidValue(concat(argument, " = ", value, ": expected at least ", least));
}

void require(bool holds, const char* argument, const char* expected) {
  if (!holds) throw InvalidValue(concat(argument, ": expected ", expected));
}

void validate_dtypes(const SampledLossParams& p) {
  const bool wide = p.dtype == DType::kFloat64;
  if (!wide && p.dtype != DType::kFloat32) throw InvalidValue("dtype: expected kFloat32 or kFloat64");
  const auto check = [&](const char* argument, std::optional<DType> dtype) {
    if (dtype.value_or(p.dtype) == p.dtype || (!wide && *dtype != DType::kFloat64)) return;
    throw InvalidValue(concat(argument, ": expected ", wide ? "kFloat64" : "kFloat32, kFloat16 or kBFloat16",
                              ", to match the compute dtype"));
  };
  check("weights_dtype", p.weights_dtype);
  check("biases_dtype", p.biases_dtype);
  check("inputs_dtype", p.inputs_dtype);
  check("grad_inputs_dtype", p.grad_inputs_dtype);
  check("grad_weights_dtype", p.grad_weights_dtype);
  check("grad_biases_dtype", p.grad_biases_dtype);
}

void validate_table(const char* name, const Table& table, std::int64_t num_classes, bool empty) {
  const std::int64_t num_shards = static_cast<std::int64_t>(table.shards.size());
  if (num_shards == 0) throw InvalidValue(concat(name, " has no shards: expected at least one"));
  const std::int64_t rows = table.rows();
  if (rows < num_classes) {
    throw InvalidValue(concat(name, " has ", rows, " rows: expected at least num_classes = ", num_classes));
  }
  for (std::int64_t i = 0; i < num_shards; ++i) {
    require(table.shards[i].data != nullptr || table.shards[i].rows == 0 || empty, name,
            "shards with memory, not null");
    const std::int64_t expected = shard_rows(i, rows, num_shards);
    if (table.shards[i].rows != expected) {
      throw InvalidValue(concat(name, "[", i, "] has ", table.shards[i].rows, " rows: expected ", expected,
                                ", as partition_strategy '", table.partition == Partition::kDiv ? "div" : "mod",
                                "' lays ", rows, " rows over ", num_shards, " shards"));
    }
  }
}

// `columns` > 0: ids are [n / columns, columns] and the message names row and column.
void validate_ids(const char* name, const std::int64_t* ids, std::int64_t count, std::int64_t columns,
                  std::int64_t num_classes) {
  std::int64_t bad = -1;
  for (std::int64_t i = count - 1; i >= 0; --i) {
    bad = static_cast<std::uint64_t>(ids[i]) >= static_cast<std::uint64_t>(num_classes) ? i : bad;
  }
  if (bad < 0) return;
  const std::string at = columns > 0 ? concat(bad / columns, ", ", bad % columns) : concat(bad);
  throw InvalidValue(concat(name, "[", at, "] = ", ids[bad], " is outside [0, num_classes = ", num_classes, ")"));
}

// The position of the first number that is no expected count; -1 if there is none.
template <class T>
std::int64_t first_unexpected(const void* counts, std::int64_t count) {
  const auto* const values = static_cast<const T*>(counts);
  bool usable = true;
  // Without branches: a vector at a time.
  for (std::int64_t i = 0; i < count; ++i) usable &= math::is_expected_count(values[i]);
  for (std::int64_t i = 0; i < count && !usable; ++i) {
    if (!math::is_expected_count(values[i])) return i;
  }
  return -1;
}

double count_at(const SampledLossParams& p, const void* counts, std::int64_t at) {
  return p.dtype == DType::kFloat64 ? static_cast<const double*>(counts)[at] : static_cast<const float*>(counts)[at];
}

// Whether an example uses the count of a sampled position: all do that do not remove it as an accidental hit.
bool uses_sample(const SampledLossParams& p, std::int64_t position) {
  if (!p.remove_accidental_hits) return p.batch > 0;
  for (std::int64_t b = 0; b < p.batch; ++b) {
    const std::int64_t* const labels = p.labels + b * p.num_true;
    if (std::find(labels, labels + p.num_true, p.sampled[position]) == labels + p.num_true) return true;
  }
  return false;
}

void validate_counts(const SampledLossParams& p) {
  const auto first = [&](const void* counts, std::int64_t count) {
    return p.dtype == DType::kFloat64 ? first_unexpected<double>(counts, count)
                                      : first_unexpected<float>(counts, count);
  };
  const auto refuse = [&](const std::string& element, const void* counts, std::int64_t at) {
    throw InvalidValue(concat(element, " = ", count_at(p, counts, at), ": expected a positive, finite ",
                              p.dtype == DType::kFloat64 ? "float64" : "float32",
                              " number, how often the class is expected among the samples"));
  };
  if (const std::int64_t at = first(p.true_count, p.batch * p.num_true); at >= 0) {
    refuse(concat("true_expected_count[", at / p.num_true, ", ", at % p.num_true, "]"), p.true_count, at);
  }
  if (first(p.sampled_count, p.num_sampled) < 0) return;
  for (std::int64_t s = 0; s < p.num_sampled; ++s) {
    if (!math::is_expected_count(count_at(p, p.sampled_count, s)) && uses_sample(p, s)) {
      refuse(concat("sampled_expected_count[", s, "]"), p.sampled_count, s);
    }
  }
}

// A plan of other ids would send gradients to wrong rows, or beyond the arrays.
bool plan_matches(const RowPlan& plan, const SampledLossParams& p) {
  const std::int64_t num_labels = p.batch * p.num_true;
  const std::int64_t rows = std::ssize(plan.ids);
  if (std::ssize(plan.entries) != num_labels + p.num_sampled || std::ssize(plan.sampled_row) != p.num_sampled ||
      std::ssize(plan.offsets) != rows + 1 || plan.offsets.front() != 0 ||
      plan.offsets.back() != std::ssize(plan.entries)) {
    return false;
  }
  // Ids ascending, and entries ascending within a row, each under its own id: so every entry occurs just once.
  for (std::int64_t row = 0; row < rows; ++row) {
    if (plan.offsets[row] > plan.offsets[row + 1] || plan.offsets[row + 1] > std::ssize(plan.entries)) return false;
    if (row > 0 && plan.ids[row - 1] >= plan.ids[row]) return false;
    std::int64_t last = -1;
    for (std::int64_t i = plan.offsets[row]; i < plan.offsets[row + 1]; ++i) {
      const std::int64_t entry = plan.entries[i];
      if (entry <= last || entry >= num_labels + p.num_sampled) return false;
      if (plan.samples_distinct && last >= num_labels) return false;
      last = entry;
      const std::int64_t s = entry - num_labels;
      if ((s < 0 ? p.labels[entry] : p.sampled[s]) != plan.ids[row] || (s >= 0 && plan.sampled_row[s] != row)) {
        return false;
      }
    }
  }
  return true;
}

}  // namespace

void validate_shapes(const SampledLossParams& p) {
  validate_dtypes(p);
  require_at_least(0, "batch", p.batch);
  require_at_least(0, "dim", p.dim);
  require_at_least(0, "num_true", p.num_true);
  require_at_least(0, "num_sampled", p.num_sampled);
  require_at_least(1, "num_classes", p.num_classes);
  validate_table("weights", p.weights, p.num_classes, p.dim == 0);
  validate_table("biases", p.biases, p.num_classes, false);
  const std::int64_t num_labels = p.batch * p.num_true;
  require(num_labels == 0 || p.labels != nullptr, "labels", "an array, not null");
  require(p.batch * p.dim == 0 || p.inputs != nullptr, "inputs", "an array, not null");
  if (p.sampled == nullptr && p.num_sampled > 0) return;  // candidates are still to be drawn
  require(num_labels == 0 || p.true_count != nullptr, "true_count", "an array, not null");
  require(p.num_sampled == 0 || p.sampled_count != nullptr, "sampled_count", "an array, not null");
}

void validate(const SampledLossParams& p) {
  validate_shapes(p);
  validate_ids("labels", p.labels, p.batch * p.num_true, p.num_true, p.num_classes);
  if (p.sampled == nullptr && p.num_sampled > 0) return;  // candidates are still to be drawn
  validate_ids("sampled_candidates", p.sampled, p.num_sampled, 0, p.num_classes);
  validate_counts(p);
  if (p.grad_weights == nullptr && p.grad_biases == nullptr) return;
  require(p.rows != nullptr, "rows", "a plan, since row gradients are asked for");
  require(plan_matches(*p.rows, p), "rows", "a plan made for these labels and samples");
}

RowPlan plan_rows(std::span<const std::int64_t> labels, std::span<const std::int64_t> sampled) {
  RowPlan plan;
  plan_rows(labels, sampled, plan);
  return plan;
}

void plan_rows(std::span<const std::int64_t> labels, std::span<const std::int64_t> sampled, RowPlan& plan) {
  cpu::plan_rows(labels, sampled, plan);
}

void nce_loss(const SampledLossParams& params) {
  require(params.num_sampled == 0 || params.sampled != nullptr, "sampled", "an array, not null");
  validate(params);
  cpu::nce_loss(params);
}

}  // namespace fastnce
