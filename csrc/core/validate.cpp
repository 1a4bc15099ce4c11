#include "core/validate.h"

#include <algorithm>
#include <cmath>
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

// Where an id stands, in messages: `columns` > 0: ids are [n / columns, columns], and the message names row and column.
std::string at_text(std::int64_t at, std::int64_t columns) {
  return columns > 0 ? concat(at / columns, ", ", at % columns) : concat(at);
}

void validate_ids(const char* name, const std::int64_t* ids, std::int64_t count, std::int64_t columns,
                  std::int64_t num_classes, std::optional<std::int64_t> padding) {
  const auto is_bad = [num_classes](std::int64_t id) {
    return static_cast<std::uint64_t>(id) >= static_cast<std::uint64_t>(num_classes);
  };
  std::int64_t bad = -1;
  if (!padding) {
    // Of good ones no sign bit is set in id and in V - 1 - id. Without comparisons, which SSE2 lacks for 64 bits.
    std::int64_t signs = 0;
    for (std::int64_t i = 0; i < count; ++i) signs |= ids[i] | (num_classes - 1 - ids[i]);
    if (signs >= 0) return;
    for (std::int64_t i = count - 1; i >= 0; --i) bad = is_bad(ids[i]) ? i : bad;
  } else {
    for (std::int64_t i = count - 1; i >= 0; --i) bad = is_bad(ids[i]) && ids[i] != *padding ? i : bad;
  }
  if (bad < 0) return;
  const std::string or_padding = padding ? concat(", and is not padding = ", *padding) : "";
  throw InvalidValue(concat(name, "[", at_text(bad, columns), "] = ", ids[bad],
                            " is outside [0, num_classes = ", num_classes, ")", or_padding));
}

// What Q is given as, for true or for sampled classes: the number by which the message calls it, and what it must be.
struct GivenQ {
  const void* values;
  bool is_log;
  const char* name;

  GivenQ(const void* expected_count, const void* log_q, const char* count_name, const char* log_name)
      : values(log_q != nullptr ? log_q : expected_count),
        is_log(log_q != nullptr),
        name(is_log ? log_name : count_name) {}

  double at(DType dtype, std::int64_t i) const {
    return dtype == DType::kFloat64 ? static_cast<const double*>(values)[i] : static_cast<const float*>(values)[i];
  }
  bool is_usable(double value) const { return is_log ? std::isfinite(value) : math::is_expected_count(value); }

  // Whether all are usable. Without branches: a vector at a time.
  template <class T>
  bool all_usable(std::int64_t count) const {
    const auto* const all = static_cast<const T*>(values);
    bool usable = true;
    if (is_log) {
      for (std::int64_t i = 0; i < count; ++i) usable &= std::isfinite(all[i]);
    } else {
      for (std::int64_t i = 0; i < count; ++i) usable &= math::is_expected_count(all[i]);
    }
    return usable;
  }

  // Refuses the first that is not usable and is read.
  template <class IsRead>
  void validate(DType dtype, std::int64_t count, std::int64_t columns, const IsRead& is_read) const {
    const bool wide = dtype == DType::kFloat64;
    if (values == nullptr || (wide ? all_usable<double>(count) : all_usable<float>(count))) return;
    for (std::int64_t i = 0; i < count; ++i) {
      if (is_usable(at(dtype, i)) || !is_read(i)) continue;
      const char* const type = wide ? "float64" : "float32";
      throw InvalidValue(concat(name, "[", at_text(i, columns), "] = ", at(dtype, i), ": expected a ",
                                is_log ? "finite " : "positive, finite ", type,
                                is_log ? " number, the logarithm of how often the class is expected among the samples"
                                       : " number, how often the class is expected among the samples"));
    }
  }
};

std::int64_t key_of(const LossRequest& r, std::int64_t id) { return r.class_keys != nullptr ? r.class_keys[id] : id; }

// Whether an example has a class and does not remove the sample.
bool uses_sample(const LossRequest& r, std::int64_t b, std::int64_t sampled) {
  const Targets& targets = r.targets;
  const std::int64_t key = key_of(r, sampled);
  bool has_class = r.parts.label_count != nullptr ? r.parts.label_count[b] > 0
                                                  : targets.offsets == nullptr && targets.per_example == 0;
  for (std::int64_t at = targets.begin(b); at < targets.begin(b + 1); ++at) {
    if (targets.padding && targets.ids[at] == *targets.padding) continue;
    has_class = true;
    if (r.loss.remove_accidental_hits && key_of(r, targets.ids[at]) == key) return false;
  }
  if (r.exclude.offsets == nullptr) return has_class;
  const std::int64_t* const begin = r.exclude.ids + r.exclude.offsets[b];
  const std::int64_t* const end = r.exclude.ids + r.exclude.offsets[b + 1];
  return has_class && std::find(begin, end, key) == end;
}

void validate_q(const LossRequest& r) {
  const Targets& targets = r.targets;
  const Negatives& negatives = r.negatives;
  const GivenQ of_true(targets.expected_count, targets.log_q, "true_expected_count", "true_log_q");
  of_true.validate(r.dtype, targets.count(r.batch), targets.offsets != nullptr ? 0 : targets.per_example,
                   [&](std::int64_t at) { return !targets.padding || targets.ids[at] != *targets.padding; });
  const GivenQ of_sampled(negatives.expected_count, negatives.log_q, "sampled_expected_count", "sampled_log_q");
  of_sampled.validate(r.dtype, negatives.total(), negatives.groups > 1 ? negatives.count : 0, [&](std::int64_t s) {
    const std::int64_t served = r.batch / negatives.groups, first = s / negatives.count * served;
    for (std::int64_t b = first; b < first + served; ++b) {
      if (uses_sample(r, b, negatives.ids[s])) return true;
    }
    return false;
  });
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

void validate_parts(const LossRequest& r) {
  const OtherParts& parts = r.parts;
  const bool softmax = r.loss.family == LossFamily::kSoftmax;
  require(softmax || !r.wanted.log_sum_exp, "log_sum_exp", "the family softmax");
  require(softmax || parts.label_weight == nullptr, "label_weight_sums", "null for the family logistic");
  require(softmax || parts.log_sum_exp == nullptr, "other_log_sum_exp", "null for the family logistic");
  const bool has_counts = parts.label_count != nullptr || r.batch == 0;  // no numbers may be no array
  require(has_counts || (parts.label_weight == nullptr && parts.log_sum_exp == nullptr), "label_counts",
          "an array, not null, beside label_weight_sums or other_log_sum_exp");
}

// Labels of an example that are no padding.
std::int64_t count_labels(const Targets& targets, std::int64_t b) {
  const std::int64_t* const begin = targets.ids + targets.begin(b);
  const std::int64_t* const end = targets.ids + targets.begin(b + 1);
  return end - begin - (targets.padding ? std::count(begin, end, *targets.padding) : 0);
}

void validate_label_counts(const LossRequest& r) {
  const std::int64_t* const counts = r.parts.label_count;
  for (std::int64_t b = 0; counts != nullptr && b < r.batch; ++b) {
    const std::int64_t own = count_labels(r.targets, b);
    if (counts[b] >= own) continue;
    throw InvalidValue(concat("label_counts[", b, "] = ", counts[b], ": expected at least ", own,
                              ", the labels of the example in this part"));
  }
}

}  // namespace

void validate_groups(std::int64_t groups, std::int64_t batch) {
  require_at_least(1, "num_groups", groups);
  if (batch % groups != 0) {
    throw InvalidValue(concat("num_groups = ", groups, ": expected a divisor of the batch, B = ", batch));
  }
}

void validate_offsets(const char* name, const std::int64_t* offsets, std::int64_t batch, std::int64_t count) {
  const auto refuse = [&](std::int64_t at, const char* expected, std::int64_t value) {
    throw InvalidValue(concat(name, ".offsets[", at, "] = ", offsets[at], ": expected ", expected, value));
  };
  if (offsets[0] != 0) refuse(0, "", 0);
  for (std::int64_t b = 0; b < batch; ++b) {
    if (offsets[b + 1] < offsets[b]) refuse(b + 1, "at least the offset before it, ", offsets[b]);
  }
  if (count >= 0 && offsets[batch] != count) refuse(batch, "the number of values, ", count);
}

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
  const Negatives& negatives = r.negatives;
  require_at_least(0, "labels.values", r.targets.listed);
  validate_groups(negatives.groups, r.batch);
  if (!(r.temperature > 0.0) || std::isinf(r.temperature)) {
    throw InvalidValue(concat("temperature = ", r.temperature, ": expected a positive, finite number"));
  }
  if (r.dtype == DType::kFloat32 && std::isinf(static_cast<float>(1.0 / r.temperature))) {
    throw InvalidValue(concat("temperature = ", r.temperature, ": expected a number whose inverse float32 holds"));
  }
  validate_parts(r);
  const std::int64_t num_labels = r.targets.count(r.batch);
  require(num_labels == 0 || r.targets.ids != nullptr, "labels", "an array, not null");
  require(r.batch * r.dim == 0 || r.inputs != nullptr, "inputs", "an array, not null");
  if (negatives.sampler) return validate_sampler(r);
  require(negatives.total() == 0 || negatives.ids != nullptr, "sampled", "an array, not null");
  require(r.targets.expected_count == nullptr || r.targets.log_q == nullptr, "true_count", "null beside true_log_q");
  require(negatives.expected_count == nullptr || negatives.log_q == nullptr, "sampled_count",
          "null beside sampled_log_q");
  const bool of_true = r.targets.expected_count != nullptr || r.targets.log_q != nullptr;
  const bool of_sampled = negatives.expected_count != nullptr || negatives.log_q != nullptr;
  require(!of_sampled || num_labels == 0 || of_true, "true_count", "an array, not null");
  require(!of_true || negatives.total() == 0 || of_sampled, "sampled_count", "an array, not null");
}

void validate_all_classes(const LossRequest& request) {
  const Negatives& negatives = request.negatives;
  const Loss& loss = request.loss;
  const auto refuse = [](bool given, const char* name, const char* expected) {
    if (given) throw InvalidValue(concat(name, ": expected ", expected, " for a loss over all classes"));
  };
  refuse(negatives.total() != 0 || negatives.sampler.has_value(), "negatives", "none");
  refuse(loss.positive_weight.values != nullptr || loss.positive_weight.all != 1.0, "positive_weight", "1");
  refuse(loss.negative_weight.values != nullptr || loss.negative_weight.all != 1.0, "negative_weight", "1");
  refuse(request.targets.expected_count != nullptr || request.targets.log_q != nullptr, "true_count", "null");
  refuse(request.class_keys != nullptr, "class_keys", "null");
  refuse(request.temperature != 1.0, "temperature", "1");
}

LossRequest request_of(const Scoring& scoring, const Targets& targets, const ClassLists& exclude) {
  LossRequest request;
  static_cast<Scoring&>(request) = scoring;
  request.targets = targets;
  request.exclude = exclude;
  return request;
}

void validate_k(std::int64_t k) {
  if (k < 0) throw InvalidValue(concat("k = ", k, ": expected at least 0"));
}

void require_array(std::int64_t elements, const void* array, const char* name) {
  if (elements > 0 && array == nullptr) throw InvalidValue(concat(name, ": expected an array, not null"));
}

void validate_dtypes(const LossRequest& request, const LossOutputs& outputs) {
  validate_dtype(request, "grad_inputs_dtype", outputs.grad_inputs_dtype);
  validate_dtype(request, "grad_weights_dtype", outputs.grad_weights_dtype);
  validate_dtype(request, "grad_biases_dtype", outputs.grad_biases_dtype);
}

void validate_labels(const LossRequest& r) {
  const Targets& targets = r.targets;
  const bool listed = targets.offsets != nullptr;
  if (listed) validate_offsets("labels", targets.offsets, r.batch, targets.listed);
  validate_ids(listed ? "labels.values" : "labels", targets.ids, targets.count(r.batch),
               listed ? 0 : targets.per_example, r.num_classes, targets.padding);
  validate_label_counts(r);
  if (r.exclude.offsets == nullptr) return;
  validate_offsets("exclude", r.exclude.offsets, r.batch, -1);
  if (r.class_keys != nullptr) return;  // which may be any
  validate_ids("exclude.values", r.exclude.ids, r.exclude.offsets[r.batch], 0, r.num_classes, {});
}

void validate_row_arrays(const GradientRows& rows, const LossRequest& tables) {
  require_at_least(0, "rows", rows.count);
  require_array(rows.count, rows.ids, "ids");
  validate_dtype(tables, "rows_dtype", rows.weights_dtype);
  validate_dtype(tables, "bias_rows_dtype", rows.biases_dtype);
  require(rows.biases == nullptr || !tables.biases.shards.empty(), "bias_rows", "none, since there are no biases");
}

void validate_rows(const GradientRows& rows, const LossRequest& tables) {
  validate_row_arrays(rows, tables);
  validate_ids("ids", rows.ids, rows.count, 0, tables.num_classes, {});
}

void validate_candidates(const LossRequest& r) {
  validate_ids("sampled_candidates", r.negatives.ids, r.negatives.total(),
               r.negatives.groups > 1 ? r.negatives.count : 0, r.num_classes, {});
  validate_q(r);
}

}  // namespace fastnce
