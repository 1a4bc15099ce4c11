// What goes over all classes, on every instruction set and precision: exact losses against the formulas of the sampled
// loss that has every class as a sample, ranks and best classes of tables with equal rows.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

#include "fastnce/config.h"
#include "fastnce/evaluate.h"
#include "fastnce/interrupt.h"
#include "problem.h"

namespace fastnce {
namespace {

// Every class is sampled, hits are removed, and rows of gradients are those of all classes.
template <class T>
void use_all_classes(Problem<T>& p, LossFamily family) {
  std::iota(p.sampled.begin(), p.sampled.end(), std::int64_t{0});
  p.plan = plan_rows(p.labels, p.sampled);
  p.grad_weights.assign(static_cast<std::size_t>(p.sizes.num_classes * p.sizes.dim), T(1e6));
  p.grad_biases.assign(static_cast<std::size_t>(p.sizes.num_classes), T(1e6));
  p.outputs.grad_weights = p.grad_weights.data();
  p.outputs.grad_biases = p.grad_biases.data();
  p.request.targets.expected_count = nullptr;
  p.request.negatives.expected_count = nullptr;
  p.request.loss = {.family = family, .true_target = TrueTarget::kOne, .remove_accidental_hits = true};
}

template <class T>
LossRequest without_negatives(const Problem<T>& p) {
  LossRequest request = p.request;
  request.negatives = {};
  request.loss.remove_accidental_hits = false;
  return request;
}

template <class T>
void expect_solved(const Problem<T>& p, double tolerance) {
  const Solution expected = solve(p);
  SCOPED_TRACE(::testing::Message() << "B = " << p.sizes.batch << ", V = " << p.sizes.num_classes
                                    << ", D = " << p.sizes.dim << ", threads = " << num_threads());
  EXPECT_LE(relative_error(p.loss, expected.loss), tolerance);
  EXPECT_LE(relative_error(p.grad_inputs, expected.grad_inputs), tolerance);
  EXPECT_LE(relative_error(p.grad_weights, expected.grad_weights), tolerance);
  EXPECT_LE(relative_error(p.grad_biases, expected.grad_biases), tolerance);
}

TEST(AllClasses, LossesAreThoseOfTheFormulasAtEveryPrecision) {
  for (const LossFamily family : {LossFamily::kSoftmax, LossFamily::kLogistic}) {
    for (const std::int64_t batch : {1, 65, 130}) {
      for (const std::int64_t num_classes : {2, 33, 300, 517}) {
        for (const Precision precision : kLevels) {
          Problem<float> p({batch, 1, num_classes, 37, num_classes});
          use_all_classes(p, family);
          p.request.precision = precision;
          full_loss(without_negatives(p), p.outputs);
          expect_solved(p, tolerance(precision));
        }
      }
    }
  }
}

TEST(AllClasses, LossesAreThoseOfTheFormulasInFloat64) {
  for (const LossFamily family : {LossFamily::kSoftmax, LossFamily::kLogistic}) {
    for (const int threads : {1, 3}) {
      const int before = num_threads();
      set_num_threads(threads);
      Problem<double> p({130, 1, 600, 37, 600});
      use_all_classes(p, family);
      full_loss(without_negatives(p), p.outputs);
      expect_solved(p, 20 * std::numeric_limits<double>::epsilon());
      set_num_threads(before);
    }
  }
}

TEST(AllClasses, EqualRowsTieBitForBitAtEveryPrecision) {
  constexpr std::int64_t kClasses = 700, kCopies = 7, kBatch = 40, kDim = 131;
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> distinct(kClasses / kCopies * kDim), weights, inputs(kBatch * kDim);
  for (float& value : distinct) value = normal(random);
  for (float& value : inputs) value = normal(random);
  std::vector<std::int64_t> row(kClasses);
  for (std::int64_t i = 0; i < kClasses; ++i) row[i] = i % (kClasses / kCopies);
  std::shuffle(row.begin(), row.end(), random);
  for (const std::int64_t r : row) {
    weights.insert(weights.end(), distinct.begin() + r * kDim, distinct.begin() + (r + 1) * kDim);
  }
  const Shard shard{weights.data(), kClasses, kDim};
  Scoring scoring;
  scoring.batch = kBatch;
  scoring.dim = kDim;
  scoring.num_classes = kClasses;
  scoring.weights.shards = {&shard, 1};
  scoring.inputs = inputs.data();
  scoring.inputs_stride = kDim;
  std::vector<std::int64_t> labels;
  for (std::int64_t b = 0; b < kBatch; ++b) {
    for (std::int64_t i = 0; i < kClasses; ++i) {
      if (row[i] == b) labels.push_back(i);
    }
  }
  for (const Precision precision : kLevels) {
    scoring.precision = precision;
    std::vector<double> ranks(labels.size());
    rank_of_labels(scoring, {.per_example = kCopies, .ids = labels.data()}, {}, ranks.data());
    std::vector<float> scores(kBatch * kClasses);
    std::vector<std::int64_t> ids(kBatch * kClasses);
    top_k(scoring, kClasses, {}, scores.data(), ids.data());
    for (std::int64_t b = 0; b < kBatch; ++b) {
      const std::int64_t* const sorted = ids.data() + b * kClasses;
      for (std::int64_t t = 0; t < kCopies; ++t) {
        const double place = ranks[static_cast<std::size_t>(b * kCopies + t)];
        EXPECT_EQ(place, ranks[static_cast<std::size_t>(b * kCopies)]);
        EXPECT_EQ(std::fmod(place, kCopies), (kCopies + 1) / 2);
        // The copies stand around their mean rank, by ascending id.
        EXPECT_EQ(sorted[static_cast<std::int64_t>(place) - 1 - kCopies / 2 + t], labels[b * kCopies + t]);
      }
    }
  }
}

TEST(AllClasses, RequestsThatMeanNothingAreRefused) {
  Problem<float> p({2, 1, 5, 3, 5});
  use_all_classes(p, LossFamily::kSoftmax);
  EXPECT_THROW(full_loss(p.request, p.outputs), std::invalid_argument);  // with negatives
  LossRequest request = without_negatives(p);
  request.loss.positive_weight.all = 2.0;
  EXPECT_THROW(full_loss(request, p.outputs), std::invalid_argument);
  request = without_negatives(p);
  request.temperature = 2.0;
  EXPECT_THROW(full_loss(request, p.outputs), std::invalid_argument);
  EXPECT_THROW(full_loss(without_negatives(p), {.loss = p.loss.data()}), std::invalid_argument);
  EXPECT_THROW(top_k(p.request, 3, {}, nullptr, nullptr), std::invalid_argument);
  EXPECT_THROW(rank_of_labels(p.request, p.request.targets, {}, nullptr), std::invalid_argument);
}

bool stop() { return true; }

TEST(AllClasses, CallsEndWhereTheyAreInterrupted) {
  Problem<float> p({300, 1, 2000, 16, 2000});
  use_all_classes(p, LossFamily::kSoftmax);
  std::vector<double> ranks(300);
  std::vector<float> scores(300);
  std::vector<std::int64_t> ids(300);
  const auto calls = [&](const auto& expect) {
    expect([&] { full_loss(without_negatives(p), p.outputs); });
    expect([&] { top_k(p.request, 1, {}, scores.data(), ids.data()); });
    expect([&] { rank_of_labels(p.request, p.request.targets, {}, ranks.data()); });
  };
  {
    const InterruptScope scope(&stop, std::chrono::milliseconds{0});
    calls([](const auto& call) { EXPECT_THROW(call(), Interrupted); });
  }
  calls([](const auto& call) { EXPECT_NO_THROW(call()); });
  expect_solved(p, tolerance(Precision::kHighest));
}

TEST(AllClasses, ProgressThatSaysFalseEndsTheCall) {
  Problem<float> p({3, 1, 20, 4, 20});
  use_all_classes(p, LossFamily::kLogistic);
  std::vector<std::int64_t> told;
  const auto report = [](void* context, std::int64_t done, std::int64_t total) {
    static_cast<std::vector<std::int64_t>*>(context)->assign({done, total});
    return false;
  };
  EXPECT_THROW(full_loss(without_negatives(p), p.outputs, {report, &told}), Interrupted);
  EXPECT_EQ(told, (std::vector<std::int64_t>{60, 60}));
}

}  // namespace
}  // namespace fastnce
