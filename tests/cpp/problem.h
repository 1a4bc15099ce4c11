// A sampled-loss problem that owns its arrays, and its solution by the formulas, one logit at a time, in a precision
// above that of either element type.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "fastnce/loss.h"

namespace fastnce {

struct Sizes {
  std::int64_t batch, num_true, num_sampled, dim, num_classes;
};

template <class T>
struct Problem {
  Sizes sizes;
  std::vector<T> weights, biases, inputs, true_count, sampled_count, grad_loss;
  std::vector<std::int64_t> labels, sampled;
  std::vector<std::int64_t> offsets;  // of lists of labels
  std::vector<T> label_weights;
  std::vector<std::int64_t> excluded, exclude_offsets, class_keys;
  std::vector<std::int64_t> label_counts;       // of all parts of a loss
  std::vector<double> weight_sums, other_sums;  // likewise; of a softmax
  Shard weight_shard, bias_shard;
  RowPlan plan;
  std::vector<T> loss, grad_inputs, grad_weights, grad_biases;
  std::vector<double> log_sum_exp;
  LossRequest request;
  LossOutputs outputs;

  // Labels and samples come from the first `distinct` classes only, so that repetitions and hits are common.
  explicit Problem(Sizes s, std::int64_t distinct = 1'000'000) : sizes(s) {
    std::mt19937_64 random(static_cast<std::uint64_t>(s.batch * 1009 + s.num_sampled * 31 + s.dim));
    const auto normals = [&](std::int64_t n, double scale) {
      std::normal_distribution<double> normal(0.0, scale);
      std::vector<T> values(static_cast<std::size_t>(n));
      for (T& value : values) value = static_cast<T>(normal(random));
      return values;
    };
    const auto ids = [&](std::int64_t n) {
      std::vector<std::int64_t> values(static_cast<std::size_t>(n));
      const std::uint64_t range = static_cast<std::uint64_t>(std::min(distinct, s.num_classes));
      for (std::int64_t& id : values) id = static_cast<std::int64_t>(random() % range);
      return values;
    };
    const auto counts = [&](std::int64_t n) {
      std::vector<T> values(static_cast<std::size_t>(n));
      for (T& value : values) value = static_cast<T>(0.001 + static_cast<double>(random() % 1000) / 1000.0);
      return values;
    };
    weights = normals(s.num_classes * s.dim, 0.3);
    biases = normals(s.num_classes, 0.3);
    inputs = normals(s.batch * s.dim, 0.3);
    grad_loss = normals(s.batch, 1.0);
    labels = ids(s.batch * s.num_true);
    sampled = ids(s.num_sampled);
    true_count = counts(s.batch * s.num_true);
    sampled_count = counts(s.num_sampled);
    plan = plan_rows(labels, sampled);
    weight_shard = {weights.data(), s.num_classes, s.dim};
    bias_shard = {biases.data(), s.num_classes, 1};
    // Poisoned, so that an output that is not written shows.
    loss.assign(static_cast<std::size_t>(s.batch), T(1e6));
    grad_inputs.assign(inputs.size(), T(1e6));
    grad_weights.assign(plan.ids.size() * static_cast<std::size_t>(s.dim), T(1e6));
    grad_biases.assign(plan.ids.size(), T(1e6));
    log_sum_exp.assign(loss.size(), 1e6);
    request.dtype = sizeof(T) == 4 ? DType::kFloat32 : DType::kFloat64;
    request.wanted = {.loss = true, .grad_inputs = true, .grad_weights = true, .grad_biases = true};
    request.batch = s.batch;
    request.dim = s.dim;
    request.num_classes = s.num_classes;
    request.targets = {.per_example = s.num_true, .ids = labels.data(), .expected_count = true_count.data()};
    request.negatives = {.count = s.num_sampled, .ids = sampled.data(), .expected_count = sampled_count.data()};
    request.weights.shards = {&weight_shard, 1};
    request.biases.shards = {&bias_shard, 1};
    request.inputs = inputs.data();
    request.inputs_stride = s.dim;
    request.grad_loss = grad_loss.data();
    outputs = {.loss = loss.data(),
               .grad_inputs = grad_inputs.data(),
               .grad_weights = grad_weights.data(),
               .grad_biases = grad_biases.data(),
               .log_sum_exp = log_sum_exp.data()};
  }
  Problem(const Problem&) = delete;

  void run() const { fastnce::run(fastnce::plan(request), outputs); }

  // Makes every `step`-th label padding, and all of every `step`-th example; the rows of gradients are fewer then.
  void pad(std::int64_t step) {
    constexpr std::int64_t kPadding = -1;
    std::vector<std::int64_t> left;
    for (std::int64_t i = 0; i < std::ssize(labels); ++i) {
      if (i % step == 0 || i / sizes.num_true % step == 1) {
        labels[i] = kPadding;
      } else {
        left.push_back(labels[i]);
      }
    }
    request.targets.padding = kPadding;
    use_rows(plan_rows(left, sampled));
  }

  // Makes lists of the labels: those of example b are its first 5 b mod (T + 1).
  void make_lists() {
    offsets.assign(1, 0);
    std::int64_t kept = 0;
    for (std::int64_t b = 0; b < sizes.batch; ++b) {
      for (std::int64_t t = 0; t < 5 * b % (sizes.num_true + 1); ++t, ++kept) {
        labels[kept] = labels[b * sizes.num_true + t];
        true_count[kept] = true_count[b * sizes.num_true + t];
      }
      offsets.push_back(kept);
    }
    labels.resize(static_cast<std::size_t>(kept));
    true_count.resize(labels.size());
    request.targets.ids = labels.data();
    request.targets.offsets = offsets.data();
    request.targets.listed = kept;
    std::vector<std::int64_t> classes = labels;
    if (request.targets.padding) std::erase(classes, *request.targets.padding);
    use_rows(plan_rows(classes, sampled));
  }

  void weigh_labels() {
    for (std::size_t i = 0; i < labels.size(); ++i) label_weights.push_back(static_cast<T>(i % 5) / 2);
    request.targets.weights = label_weights.data();
  }

  // Example b excludes `step` b mod 4 classes, and every tenth one `many` more; some stand there twice.
  void exclude(std::int64_t step, std::int64_t many) {
    exclude_offsets.assign(1, 0);
    for (std::int64_t b = 0; b < sizes.batch; ++b) {
      const std::int64_t count = step * b % 4 + (b % 10 == 3 ? many : 0);
      for (std::int64_t i = 0; i < count; ++i) excluded.push_back((7 * b + 3 * i * i) % sizes.num_classes);
      exclude_offsets.push_back(std::ssize(excluded));
    }
    request.exclude = {excluded.data(), exclude_offsets.data(), std::ssize(excluded)};
  }

  // Keys that some classes share, negative ones among them.
  void share_keys() {
    for (std::int64_t id = 0; id < sizes.num_classes; ++id) class_keys.push_back((id % 17 - 5) << 40);
    for (std::int64_t& id : excluded) id = class_keys[static_cast<std::size_t>(id)];
    request.class_keys = class_keys.data();
  }

  // Makes it a part of a loss, last: example b has 7 b mod 4 labels in other parts, and every fifth one no logits
  // there.
  void make_part() {
    for (std::int64_t b = 0; b < sizes.batch; ++b) {
      const std::int64_t elsewhere = 7 * b % 4;
      std::int64_t count = elsewhere;
      double weight = 0.75 * static_cast<double>(elsewhere);
      for (std::int64_t at = request.targets.begin(b); at < request.targets.begin(b + 1); ++at) {
        if (labels[at] == request.targets.padding) continue;
        ++count;
        weight += label_weights.empty() ? 1.0 : static_cast<double>(label_weights[at]);
      }
      label_counts.push_back(count);
      weight_sums.push_back(weight);
      other_sums.push_back(b % 5 == 4 ? -INFINITY : static_cast<double>(b % 7) - 2.5);
    }
    request.parts.label_count = label_counts.data();
    if (request.loss.family != LossFamily::kSoftmax) return;
    request.parts.label_weight = weight_sums.data();
    request.parts.log_sum_exp = other_sums.data();
    request.wanted.log_sum_exp = true;
  }

  // Candidates of their own for each of `groups` groups.
  void make_groups(std::int64_t groups, std::int64_t distinct = 1'000'000) {
    std::mt19937_64 random(static_cast<std::uint64_t>(groups));
    const std::int64_t range = std::min(distinct, sizes.num_classes);
    sampled.resize(static_cast<std::size_t>(groups * sizes.num_sampled));
    sampled_count.resize(sampled.size());
    for (std::int64_t& id : sampled) id = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(range));
    for (T& count : sampled_count) count = static_cast<T>(0.001 + static_cast<double>(random() % 1000) / 1000.0);
    request.negatives = {
        .groups = groups, .count = sizes.num_sampled, .ids = sampled.data(), .expected_count = sampled_count.data()};
    use_rows(plan_rows(labels, sampled));
  }

  void use_rows(RowPlan rows) {
    plan = std::move(rows);
    grad_weights.resize(plan.ids.size() * static_cast<std::size_t>(sizes.dim));
    grad_biases.resize(plan.ids.size());
  }
};

using Real = long double;

// A tensor, and the sums of the magnitudes of the terms that its elements are sums of.
struct Sums {
  explicit Sums(std::size_t size) : value(size), magnitude(size) {}
  void add(std::int64_t i, Real term) {
    value[i] += term;
    magnitude[i] += std::abs(term);
  }
  std::vector<Real> value, magnitude;
};

struct Solution {
  Sums loss, grad_inputs, grad_weights, grad_biases, log_sum_exp;
};

// Largest difference, relative to the largest magnitude of the tensor.
template <class T>
double relative_error(const std::vector<T>& got, const Sums& expected) {
  Real worst = 0;
  Real largest = 1e-300L;
  for (std::size_t i = 0; i < got.size(); ++i) {
    worst = std::max(worst, std::abs(got[i] - expected.value[i]));
    largest = std::max(largest, expected.magnitude[i]);
    if (std::isnan(got[i])) return INFINITY;
  }
  return static_cast<double>(worst / largest);
}

inline constexpr Precision kLevels[] = {Precision::kHighest, Precision::kHigh, Precision::kMedium};

// What a level may be off in float32, by relative_error().
inline double tolerance(Precision precision) {
  switch (precision) {
    case Precision::kHighest: return 20 * std::numeric_limits<float>::epsilon();
    case Precision::kHigh: return 2e-5;
    case Precision::kMedium: return 1e-2;
  }
  return 0;
}

// The same for what depends on the logits alone, the loss and the gradients of biases, on a CUDA device where tables
// and inputs are of one 16-bit type: no product rounds an operand, and tensor cores add up in float32.
inline double halves_logits_tolerance(Precision precision) {
  return std::min(tolerance(precision), tolerance(Precision::kHigh));
}

// What a factor is for an example.
template <class T>
Real value_of(const ExampleFactor& factor, std::int64_t b) {
  return factor.values != nullptr ? static_cast<const T*>(factor.values)[b] : static_cast<Real>(factor.all);
}

template <class T>
class Solver {
 public:
  explicit Solver(const Problem<T>& problem)
      : p(problem),
        out{Sums(p.loss.size()), Sums(p.grad_inputs.size()), Sums(p.grad_weights.size()), Sums(p.grad_biases.size()),
            Sums(p.loss.size())} {}

  Solution solve() {
    for (std::int64_t b = 0; b < p.sizes.batch; ++b) solve(b);
    return std::move(out);
  }

 private:
  struct Term {
    std::int64_t id;
    Real logit;
    bool positive;
    Real weight = 1;
  };

  void solve(std::int64_t b) {
    const Loss& loss = p.request.loss;
    const Targets& targets = p.request.targets;
    std::vector<Term> terms;
    for (std::int64_t at = targets.begin(b); at < targets.begin(b + 1); ++at) {
      if (p.labels[at] == targets.padding) continue;
      const Real weight = targets.weights == nullptr ? Real{1} : static_cast<const T*>(targets.weights)[at];
      terms.push_back({p.labels[at], logit(b, p.labels[at], targets.expected_count, at), true, weight});
    }
    const std::int64_t* const counts = p.request.parts.label_count;
    const auto count = static_cast<Real>(counts != nullptr ? counts[b] : std::ssize(terms));
    const bool may_be_empty = counts == nullptr && p.sizes.num_true == 0 && targets.offsets == nullptr;
    if (count == 0 && !may_be_empty) return;  // padding, or an empty list
    const std::int64_t first = b / (p.sizes.batch / p.request.negatives.groups) * p.sizes.num_sampled;  // of its group
    for (std::int64_t s = first; s < first + p.sizes.num_sampled; ++s) {
      const std::int64_t key = key_of(p.sampled[s]);
      const auto is_hit = [&](const Term& term) { return term.positive && key_of(term.id) == key; };
      if (loss.remove_accidental_hits && std::ranges::any_of(terms, is_hit)) continue;
      if (excludes(b, key)) continue;
      terms.push_back({p.sampled[s], logit(b, p.sampled[s], p.request.negatives.expected_count, s), false});
    }
    const Real target = loss.true_target == TrueTarget::kMean ? 1 / count : Real{1};
    loss.family == LossFamily::kSoftmax ? add_softmax(b, terms, target) : add_logistic(b, terms, target);
  }

  std::int64_t key_of(std::int64_t id) const { return p.request.class_keys != nullptr ? p.request.class_keys[id] : id; }
  bool excludes(std::int64_t b, std::int64_t key) const {
    const ClassLists& lists = p.request.exclude;
    if (lists.offsets == nullptr) return false;
    return std::find(lists.ids + lists.offsets[b], lists.ids + lists.offsets[b + 1], key) !=
           lists.ids + lists.offsets[b + 1];
  }

  Real logit(std::int64_t b, std::int64_t id, const void* counts, std::int64_t at) const {
    Real sum = p.request.biases.shards.empty() ? Real{0} : p.biases[id];
    if (counts != nullptr) sum -= std::log(Real{static_cast<const T*>(counts)[at]});
    Real product = 0;
    for (std::int64_t d = 0; d < p.sizes.dim; ++d) {
      product += static_cast<Real>(p.inputs[b * p.sizes.dim + d]) * p.weights[id * p.sizes.dim + d];
    }
    return sum + product / p.request.temperature;
  }

  void add_logistic(std::int64_t b, const std::vector<Term>& terms, Real target) {
    const Loss& loss = p.request.loss;
    for (const auto& [id, logit, positive, own_weight] : terms) {
      const Real r = positive ? target : Real{0};
      const Real weight = own_weight * value_of<T>(positive ? loss.positive_weight : loss.negative_weight, b);
      out.loss.add(b, weight * (std::log1p(std::exp(-std::abs(logit))) + std::max(logit, Real{0}) - r * logit));
      add_gradient(b, id, weight * (1 / (1 + std::exp(-logit)) - r));
    }
  }

  void add_softmax(std::int64_t b, const std::vector<Term>& terms, Real target) {
    const OtherParts& parts = p.request.parts;
    const Real elsewhere = parts.log_sum_exp != nullptr ? parts.log_sum_exp[b] : -INFINITY;
    Real largest = elsewhere, weights = 0;
    for (const Term& term : terms) weights += term.positive ? term.weight : Real{0};
    if (parts.label_weight != nullptr) weights = parts.label_weight[b];
    for (const Term& term : terms) largest = std::max(largest, term.logit);
    Real sum = std::exp(elsewhere - largest);
    for (const Term& term : terms) sum += std::exp(term.logit - largest);
    out.log_sum_exp.add(b, largest + std::log(sum));
    for (const auto& [id, logit, positive, weight] : terms) {
      const Real own = std::exp(logit - largest);
      if (!positive) {
        add_gradient(b, id, weights * target * own / sum);
        continue;
      }
      out.loss.add(b, target * weight * (largest - logit + std::log(sum)));
      // weights p - weight, without cancellation where they are nearly the same.
      Real others = std::exp(elsewhere - largest);
      for (const Term& term : terms) others += &term.logit != &logit ? std::exp(term.logit - largest) : Real{0};
      add_gradient(b, id, target * ((weights - weight) * own - weight * others) / sum);
    }
  }

  void add_gradient(std::int64_t b, std::int64_t id, Real slope) {
    const Real g = p.request.grad_loss == nullptr ? slope : slope * p.grad_loss[b];
    const std::int64_t row = std::ranges::lower_bound(p.plan.ids, id) - p.plan.ids.begin();
    out.grad_biases.add(row, g);
    for (std::int64_t d = 0; d < p.sizes.dim; ++d) {
      out.grad_inputs.add(b * p.sizes.dim + d, g * p.weights[id * p.sizes.dim + d] / p.request.temperature);
      out.grad_weights.add(row * p.sizes.dim + d, g * p.inputs[b * p.sizes.dim + d] / p.request.temperature);
    }
  }

  const Problem<T>& p;
  Solution out;
};

template <class T>
Solution solve(const Problem<T>& p) {
  return Solver<T>(p).solve();
}

}  // namespace fastnce
