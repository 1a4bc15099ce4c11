// Every long call polls for an interrupt, throws Interrupted on request, and succeeds when repeated.
#include "fastnce/interrupt.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <vector>

#include "fastnce/config.h"
#include "fastnce/distribution.h"
#include "fastnce/loss.h"
#include "fastnce/sampler.h"
#include "problem.h"

namespace fastnce {
namespace {

constexpr std::chrono::milliseconds kAtOnce{0};

bool stop() { return true; }

int asked = 0;
bool count_and_go_on() {
  ++asked;
  return false;
}
bool stop_at_the_second() { return ++asked == 2; }

// `call` must have at least two parts.
template <class Call>
void expect_interruptible(const Call& call) {
  asked = 0;
  {
    const InterruptScope scope(&stop_at_the_second, kAtOnce);
    EXPECT_THROW(call(), Interrupted);
  }
  EXPECT_EQ(asked, 2);
  const InterruptScope scope(&count_and_go_on, kAtOnce);
  EXPECT_NO_THROW(call());
  EXPECT_GE(asked, 4);
}

std::vector<std::int64_t> repeated(std::int64_t id, std::size_t count) { return std::vector<std::int64_t>(count, id); }

constexpr SamplerParams kDraw{.distribution = {.range_max = 1000}, .num_sampled = 1000};

TEST(Interrupt, EndsUniqueDraws) {
  std::vector<std::int64_t> ids(1000);
  expect_interruptible([&] { sample_candidates(kDraw, ids.data()); });
}

TEST(Interrupt, EndsDrawsWithRepetitionsAndTheirCounts) {
  constexpr std::int64_t kDraws = 3 << 20;
  const SamplerParams params{.distribution = {.range_max = 1 << 20}, .num_sampled = kDraws, .unique = false};
  std::vector<std::int64_t> ids(kDraws);
  expect_interruptible([&] { sample_candidates(params, ids.data()); });
  std::vector<float> counts(kDraws);
  expect_interruptible([&] { expected_counts(params, kDraws, ids, counts.data()); });
}

TEST(Interrupt, EndsRowPlans) {
  const std::int64_t labels[] = {70'000, 3, 1'000'000};  // ids of more than one radix digit
  expect_interruptible([&] { plan_rows(labels, {}); });
}

TEST(Interrupt, EndsSearchesForAccidentalHits) {
  const auto labels = repeated(1, 200'000);
  const auto sampled = repeated(2, 10);
  expect_interruptible([&] { accidental_hits(labels, 1, sampled); });
}

// How often a call asks, if it may each time.
template <class Call>
int asks_of(const Call& call) {
  asked = 0;
  const InterruptScope scope(&count_and_go_on, kAtOnce);
  call();
  return asked;
}

// By the work done, not by draws, labels or classes: each of these takes a tenth of a microsecond or several.
TEST(Interrupt, IsAskedForOftenWhereverTheWorkIs) {
  constexpr std::int64_t kDraws = 1 << 18, kClasses = 1 << 20;
  std::vector<std::int64_t> ids(kDraws);
  const LearnedWeights learned(std::vector<std::int32_t>(1000, 1));
  for (const bool unique : {false, true}) {
    const SamplerParams params{
        .distribution = learned.distribution(), .num_sampled = unique ? 1000 : kDraws, .unique = unique};
    EXPECT_GE(asks_of([&] { sample_candidates(params, ids.data()); }), unique ? 1 : kDraws / 16'384 / num_threads());
  }
  const auto labels = repeated(1, 3000), sampled = repeated(1, 2000);
  EXPECT_GE(asks_of([&] { accidental_hits(labels, 1, sampled); }), 3000 * 2000 / (2 << 20));
  EXPECT_GE(asks_of([&] { UnigramTable(std::vector<float>(kClasses, 1.0f)); }), 3 * kClasses / 65536);
  EXPECT_GE(asks_of([&] { unigram_weights(std::vector<float>(kClasses, 2.0f), "u", {.distortion = 0.75f}); }),
            kClasses / 65536);
  EXPECT_GE(asks_of([&] { plan_rows(std::vector<std::int64_t>(kClasses, 5), {}); }), 4);
}

TEST(Interrupt, EndsLosses) {
  const Problem<float> problem({.batch = 300, .num_true = 1, .num_sampled = 300, .dim = 9, .num_classes = 500});
  expect_interruptible([&] { problem.run(); });
}

TEST(Interrupt, EndsLossesOfManyGroups) {
  Problem<float> problem({.batch = 64, .num_true = 1, .num_sampled = 64 * 20, .dim = 9, .num_classes = 500});
  for (const std::int64_t groups : {4, 64}) {
    problem.request.negatives.groups = groups;
    problem.request.negatives.count = 64 * 20 / groups;
    for (const LossFamily family : {LossFamily::kLogistic, LossFamily::kSoftmax}) {
      problem.request.loss.family = family;
      expect_interruptible([&] { problem.run(); });
      const std::vector<float> loss = problem.loss;
      problem.run();
      EXPECT_EQ(problem.loss, loss);
    }
  }
}

TEST(Interrupt, EndsLossesOfTrueClassesAlone) {
  const Problem<double> problem({.batch = 20'000, .num_true = 2, .num_sampled = 0, .dim = 3, .num_classes = 500});
  expect_interruptible([&] { problem.run(); });
}

Problem<float>* inner = nullptr;
bool compute_and_go_on() {
  const InterruptScope nothing(nullptr);
  inner->run();
  return false;
}

// As a signal handler in Python does.
TEST(Interrupt, ARequestMayCallTheLibrary) {
  for (const Precision precision : kLevels) {
    const Sizes sizes{.batch = 300, .num_true = 1, .num_sampled = 300, .dim = 40, .num_classes = 500};
    Problem<float> undisturbed(sizes), disturbed(sizes);
    Problem<float> larger({.batch = 20, .num_true = 2, .num_sampled = 900, .dim = 70, .num_classes = 1000});
    undisturbed.request.precision = disturbed.request.precision = larger.request.precision = precision;
    undisturbed.run();
    inner = &larger;
    {
      const InterruptScope scope(&compute_and_go_on, kAtOnce);
      disturbed.run();
    }
    EXPECT_EQ(disturbed.loss, undisturbed.loss);
    EXPECT_EQ(disturbed.grad_inputs, undisturbed.grad_inputs);
    EXPECT_EQ(disturbed.grad_weights, undisturbed.grad_weights);
    EXPECT_LE(relative_error(larger.grad_weights, solve(larger).grad_weights), tolerance(precision));
  }
}

TEST(Interrupt, DoesNotAskWithinTheInterval) {
  std::vector<std::int64_t> ids(1000);
  const InterruptScope scope(&stop, std::chrono::hours{1});
  EXPECT_NO_THROW(sample_candidates(kDraw, ids.data()));
}

TEST(Interrupt, AsksTheInnermostScopeOfTheCallingThreadAlone) {
  std::vector<std::int64_t> ids(1000);
  const InterruptScope outer(&stop, kAtOnce);
  {
    const InterruptScope inner(&count_and_go_on, kAtOnce);
    EXPECT_NO_THROW(sample_candidates(kDraw, ids.data()));
  }
  std::thread([&] { EXPECT_NO_THROW(sample_candidates(kDraw, ids.data())); }).join();
  EXPECT_THROW(sample_candidates(kDraw, ids.data()), Interrupted);
}

}  // namespace
}  // namespace fastnce
