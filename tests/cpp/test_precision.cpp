// What the precision levels promise, on whatever instruction set is in use: errors against the long double solution.
#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>
#include <vector>

#include "fastnce/config.h"
#include "fastnce/error.h"
#include "fastnce/loss.h"
#include "problem.h"

namespace fastnce {
namespace {

const Loss kFamilies[] = {{}, {.family = LossFamily::kSoftmax, .remove_accidental_hits = true}};

template <class T>
void expect_matches(Problem<T>& p, const Solution& expected, Precision precision, double allowed) {
  p.request.precision = precision;
  p.run();
  const Sizes& s = p.sizes;
  SCOPED_TRACE(::testing::Message() << precision_name(precision) << ", B = " << s.batch << ", T = " << s.num_true
                                    << ", S = " << s.num_sampled << ", D = " << s.dim);
  EXPECT_LE(relative_error(p.loss, expected.loss), allowed);
  EXPECT_LE(relative_error(p.grad_inputs, expected.grad_inputs), allowed);
  EXPECT_LE(relative_error(p.grad_weights, expected.grad_weights), allowed);
  EXPECT_LE(relative_error(p.grad_biases, expected.grad_biases), allowed);
}

template <class T>
void expect_solved(Problem<T>& p, Precision precision, double allowed) {
  expect_matches(p, solve(p), precision, allowed);
}

TEST(Precision, EveryLevelKeepsItsPromiseAroundTheTileBoundaries) {
  for (const Precision precision : kLevels) {
    for (const std::int64_t dim : {1, 15, 16, 17, 31, 32, 33, 64, 100}) {
      for (const std::int64_t num_sampled : {1, 16, 17, 32, 33, 129}) {
        for (const std::int64_t batch : {1, 16, 31, 33, 65}) {
          for (const Loss& loss : kFamilies) {
            Problem<float> p({batch, 1, num_sampled, dim, 300});
            p.request.loss = loss;
            expect_solved(p, precision, tolerance(precision));
          }
        }
      }
    }
  }
}

TEST(Precision, EveryLevelKeepsItsPromiseOverManyTiles) {
  const int before = num_threads();
  for (const Loss& loss : kFamilies) {
    for (const std::int64_t distinct : {5000, 20}) {  // distinct samples and repeated ones
      Problem<float> p({.batch = 700, .num_true = 2, .num_sampled = 1100, .dim = 70, .num_classes = 5000}, distinct);
      p.request.loss = loss;
      p.request.loss.remove_accidental_hits = true;
      const Solution expected = solve(p);
      for (const int threads : {1, 3}) {
        set_num_threads(threads);
        for (const Precision precision : kLevels) expect_matches(p, expected, precision, tolerance(precision));
      }
    }
  }
  set_num_threads(before);
}

// Wide rows shrink the tiles to what the L2 cache holds, and sum many products.
TEST(Precision, EveryLevelKeepsItsPromiseForWideRows) {
  for (const Loss& loss : kFamilies) {
    Problem<float> p({.batch = 70, .num_true = 1, .num_sampled = 300, .dim = 3000, .num_classes = 400});
    p.request.loss = loss;
    const Solution expected = solve(p);
    for (const Precision precision : kLevels) expect_matches(p, expected, precision, tolerance(precision));
  }
}

TEST(Precision, Float64IsFloat64AtEveryLevel) {
  Problem<double> highest({.batch = 40, .num_true = 1, .num_sampled = 50, .dim = 30, .num_classes = 100});
  highest.run();
  for (const Precision precision : kLevels) {
    Problem<double> p(highest.sizes);
    expect_solved(p, precision, 20 * std::numeric_limits<double>::epsilon());
    EXPECT_EQ(p.grad_weights, highest.grad_weights);
  }
}

// Numbers of every size that float32 can hold, not only those near one: parts must not overflow, nor lose the small.
TEST(Precision, ScaleDoesNotMatter) {
  for (const Precision precision : kLevels) {
    for (const float scale : {1e-18F, 1e-6F, 1e6F, 1e18F}) {
      Problem<float> p({.batch = 40, .num_true = 1, .num_sampled = 50, .dim = 30, .num_classes = 100});
      for (float& value : p.inputs) value *= scale;
      for (float& value : p.weights) value /= scale;
      expect_solved(p, precision, tolerance(precision));
    }
  }
}

TEST(Precision, NonFiniteExamplesDoNotSpreadToOthers) {
  const Sizes sizes{.batch = 40, .num_true = 1, .num_sampled = 50, .dim = 33, .num_classes = 100};
  for (const Precision precision : kLevels) {
    Problem<float> clean(sizes);
    clean.request.precision = precision;
    clean.run();
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      Problem<float> p(sizes);
      p.request.precision = precision;
      p.inputs[3 * sizes.dim + 32] = bad;
      p.run();
      for (std::int64_t b = 0; b < sizes.batch; ++b) {
        if (b == 3) {
          EXPECT_FALSE(std::isfinite(p.loss[b]));
        } else {
          EXPECT_EQ(p.loss[b], clean.loss[b]);
        }
      }
    }
  }
}

TEST(Precision, HasADefaultAndNames) {
  const Precision before = default_precision();
  for (const Precision precision : kLevels) {
    set_default_precision(precision_from(precision_name(precision), "precision"));
    EXPECT_EQ(default_precision(), precision);
  }
  set_default_precision(before);
  try {
    precision_from("low", "precision");
    FAIL();
  } catch (const InvalidValue& error) {
    EXPECT_STREQ(error.what(), "precision = 'low': expected 'highest', 'high' or 'medium'");
  }
}

// Sums over thousands of examples keep their digits only if they are made of sums over some. Every thread has a sum of
// its own, here over 4,096 examples.
TEST(Precision, HighestKeepsItsDigitsOverManyExamples) {
  const int before = num_threads();
  for (const int threads : {1, 2}) {
    set_num_threads(threads);
    Problem<float> p({.batch = 4096 * threads, .num_true = 1, .num_sampled = 33, .dim = 33, .num_classes = 1000});
    p.request.grad_loss = nullptr;  // all gradients of one sign: the sums grow with every example
    p.grad_loss.assign(p.grad_loss.size(), 1.0f);
    for (float& x : p.inputs) x = std::abs(x);
    p.request.precision = Precision::kHighest;
    p.run();
    const Solution exact = solve(p);
    Real error = 0;
    Real size = 0;
    for (std::size_t i = 0; i < p.grad_weights.size(); ++i) {
      const Real difference = p.grad_weights[i] - exact.grad_weights.value[i];
      error += difference * difference;
      size += exact.grad_weights.value[i] * exact.grad_weights.value[i];
    }
    EXPECT_LE(static_cast<double>(std::sqrt(error / size)), 0x1p-23) << threads << " threads";
  }
  set_num_threads(before);
}

}  // namespace
}  // namespace fastnce
