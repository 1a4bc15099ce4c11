// A sampled-loss problem that owns its arrays, and its solution by the formulas, one logit at a time, in a precision
// above that of either element type.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <span>
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
  Shard weight_shard, bias_shard;
  RowPlan plan;
  std::vector<T> loss, grad_inputs, grad_weights, grad_biases;
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
               .grad_biases = grad_biases.data()};
  }
  Problem(const Problem&) = delete;

  void run() const { fastnce::run(fastnce::plan(request), outputs); }
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
  Sums loss, grad_inputs, grad_weights, grad_biases;
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

template <class T>
Solution solve(const Problem<T>& p) {
  const auto [batch, num_true, num_sampled, dim, num_classes] = p.sizes;
  Solution out{Sums(p.loss.size()), Sums(p.grad_inputs.size()), Sums(p.grad_weights.size()),
               Sums(p.grad_biases.size())};
  const auto row_of = [&](std::int64_t id) { return std::ranges::lower_bound(p.plan.ids, id) - p.plan.ids.begin(); };
  const auto add_class = [&](std::int64_t b, std::int64_t id, Real count, Real target) {
    Real logit = p.biases[id] - std::log(count);
    for (std::int64_t d = 0; d < dim; ++d) {
      logit += static_cast<Real>(p.inputs[b * dim + d]) * p.weights[id * dim + d];
    }
    out.loss.add(b, std::log1p(std::exp(-std::abs(logit))) + std::max(logit, Real{0}) - target * logit);
    const Real g = (1 / (1 + std::exp(-logit)) - target) * p.grad_loss[b];
    out.grad_biases.add(row_of(id), g);
    for (std::int64_t d = 0; d < dim; ++d) {
      out.grad_inputs.add(b * dim + d, g * p.weights[id * dim + d]);
      out.grad_weights.add(row_of(id) * dim + d, g * p.inputs[b * dim + d]);
    }
  };
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t t = 0; t < num_true; ++t) {
      add_class(b, p.labels[b * num_true + t], p.true_count[b * num_true + t], Real{1} / static_cast<Real>(num_true));
    }
    for (std::int64_t s = 0; s < num_sampled; ++s) {
      const auto own = std::span(p.labels).subspan(b * num_true, num_true);
      const bool hit = std::ranges::find(own, p.sampled[s]) != own.end();
      if (!hit || !p.request.loss.remove_accidental_hits) add_class(b, p.sampled[s], p.sampled_count[s], Real{0});
    }
  }
  return out;
}

}  // namespace fastnce
