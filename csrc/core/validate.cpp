#include "core/validate.h"

#include <algorithm>
#include <string>

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

// An array's element type beside the compute dtype.
void validate_dtype(const LossRequest& r, const char* argument, std::optional<DType> dtype) {
  const bool wide = r.dtype == DType::kFloat64;
  if (dtype.value_or(r.dtype) == r.dtype || (!wide && *dtype != DType::kFloat64)) return;
  throw InvalidValue(concat(argument, ": expected ", wide ? "kFloat64" : "kFloat32, kFloat16 or kBFloat16",
                            ", to match the compute dtype"));
}

void validate_table(const char* name, const Table& table, std::int64_t num_classes, bool empty) {
  const std::int64_t num_shards = static_cast<std::int64_t>(table.shards.size());
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
                  std::int64_t num_classes, std::optional<std::int64_t> padding) {
  const auto is_bad = [num_classes](std::int64_t id) {
    return static_cast<std::uint64_t>(id) >= static_cast<std::uint64_t>(num_classes);
  };
  std::int64_t bad = -1;
  if (!padding) {
    for (std::int64_t i = count - 1; i >= 0; --i) bad = is_bad(ids[i]) ? i : bad;
  } else {
    for (std::int64_t i = count - 1; i >= 0; --i) bad = is_bad(ids[i]) && ids[i] != *padding ? i : bad;
  }
  if (bad < 0) return;
  const std::string at = columns > 0 ? concat(bad / columns, ", ", bad % columns) : concat(bad);
  const std::string or_padding = padding ? concat(", and is not padding = ", *padding) : "";
  throw InvalidValue(
      concat(name, "[", at, "] = ", ids[bad], " is outside [0, num_classes = ", num_classes, ")", or_padding));
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

double count_at(const LossRequest& r, const void* counts, std::int64_t at) {
  return r.dtype == DType::kFloat64 ? static_cast<const double*>(counts)[at] : static_cast<const float*>(counts)[at];
}

// Whether an example uses the count of a sampled position: all do that have a class, unless they remove it as a hit.
bool uses_sample(const LossRequest& r, std::int64_t position) {
  const Targets& targets = r.targets;
  for (std::int64_t b = 0; b < r.batch; ++b) {
    bool has_class = targets.per_example == 0, removes = false;
    for (std::int64_t t = 0; t < targets.per_example; ++t) {
      const std::int64_t label = targets.ids[b * targets.per_example + t];
      if (targets.padding && label == *targets.padding) continue;
      has_class = true;
      removes |= r.loss.remove_accidental_hits && label == r.negatives.ids[position];
    }
    if (has_class && !removes) return true;
  }
  return false;
}

void validate_counts(const LossRequest& r) {
  const Targets& targets = r.targets;
  const auto first = [&](const void* counts, std::int64_t count) {
    return r.dtype == DType::kFloat64 ? first_unexpected<double>(counts, count)
                                      : first_unexpected<float>(counts, count);
  };
  const auto refuse = [&](const std::string& element, const void* counts, std::int64_t at) {
    throw InvalidValue(concat(element, " = ", count_at(r, counts, at), ": expected a positive, finite ",
                              r.dtype == DType::kFloat64 ? "float64" : "float32",
                              " number, how often the class is expected among the samples"));
  };
  const std::int64_t num_labels = r.batch * targets.per_example;
  for (std::int64_t at = first(targets.expected_count, num_labels); at >= 0 && at < num_labels; ++at) {
    const bool is_padding = targets.padding && targets.ids[at] == *targets.padding;
    if (is_padding || math::is_expected_count(count_at(r, targets.expected_count, at))) continue;
    refuse(concat("true_expected_count[", at / targets.per_example, ", ", at % targets.per_example, "]"),
           targets.expected_count, at);
  }
  const void* const sampled_count = r.negatives.expected_count;
  if (first(sampled_count, r.negatives.count) < 0) return;
  for (std::int64_t s = 0; s < r.negatives.count; ++s) {
    if (!math::is_expected_count(count_at(r, sampled_count, s)) && uses_sample(r, s)) {
      refuse(concat("sampled_expected_count[", s, "]"), sampled_count, s);
    }
  }
}

// What a request and its sampler both say. The rest is checked with the sampler.
void validate_sampler(const LossRequest& r) {
  const SamplerParams& sampler = *r.negatives.sampler;
  if (sampler.num_sampled != r.negatives.count) {
    throw InvalidValue(concat("sampler.num_sampled = ", sampler.num_sampled,
                              ": expected num_sampled = ", r.negatives.count, ", the number of negatives"));
  }
  if (sampler.distribution.range_max != r.num_classes) {
    throw InvalidValue(concat("sampler.distribution.range_max = ", sampler.distribution.range_max,
                              ": expected num_classes = ", r.num_classes));
  }
}

}  // namespace

void validate_shapes(const LossRequest& r) {
  if (r.dtype != DType::kFloat32 && r.dtype != DType::kFloat64) {
    throw InvalidValue("dtype: expected kFloat32 or kFloat64");
  }
  validate_dtype(r, "weights_dtype", r.weights_dtype);
  validate_dtype(r, "biases_dtype", r.biases_dtype);
  validate_dtype(r, "inputs_dtype", r.inputs_dtype);
  require_at_least(0, "batch", r.batch);
  require_at_least(0, "dim", r.dim);
  require_at_least(0, "num_true", r.targets.per_example);
  if (!r.negatives.sampler) require_at_least(0, "num_sampled", r.negatives.count);
  require_at_least(1, "num_classes", r.num_classes);
  if (r.weights.shards.empty()) throw InvalidValue("weights has no shards: expected at least one");
  validate_table("weights", r.weights, r.num_classes, r.dim == 0);
  if (!r.biases.shards.empty()) validate_table("biases", r.biases, r.num_classes, false);
  require(!r.wanted.grad_biases || !r.biases.shards.empty(), "biases", "a table, since its gradient is asked for");
  const std::int64_t num_labels = r.batch * r.targets.per_example;
  require(num_labels == 0 || r.targets.ids != nullptr, "labels", "an array, not null");
  require(r.batch * r.dim == 0 || r.inputs != nullptr, "inputs", "an array, not null");
  if (r.negatives.sampler) return validate_sampler(r);
  require(r.negatives.count == 0 || r.negatives.ids != nullptr, "sampled", "an array, not null");
  const bool counted = r.targets.expected_count != nullptr || r.negatives.expected_count != nullptr;
  require(!counted || num_labels == 0 || r.targets.expected_count != nullptr, "true_count", "an array, not null");
  require(!counted || r.negatives.count == 0 || r.negatives.expected_count != nullptr, "sampled_count",
          "an array, not null");
}

void validate_dtypes(const LossRequest& request, const LossOutputs& outputs) {
  validate_dtype(request, "grad_inputs_dtype", outputs.grad_inputs_dtype);
  validate_dtype(request, "grad_weights_dtype", outputs.grad_weights_dtype);
  validate_dtype(request, "grad_biases_dtype", outputs.grad_biases_dtype);
}

void validate_labels(const LossRequest& r) {
  validate_ids("labels", r.targets.ids, r.batch * r.targets.per_example, r.targets.per_example, r.num_classes,
               r.targets.padding);
}

void validate_candidates(const LossRequest& r) {
  validate_ids("sampled_candidates", r.negatives.ids, r.negatives.count, 0, r.num_classes, {});
  if (r.targets.expected_count != nullptr || r.negatives.expected_count != nullptr) validate_counts(r);
}

}  // namespace fastnce
