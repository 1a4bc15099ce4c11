// Every call that can take long asks whether it shall end, throws Interrupted when told so, and succeeds afterwards.
#include "fastnce/interrupt.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "fastnce/sampled_loss.h"
#include "fastnce/sampler.h"
#include "problem.h"

namespace fastnce {
namespace {

bool stop() { return true; }

int asked = 0;
bool count_and_go_on() {
  ++asked;
  return false;
}

// `call` must take more than a tenth of a second, so that it asks at least once.
template <class Call>
void expect_interruptible(const Call& call) {
  {
    const InterruptScope scope(&stop);
    EXPECT_THROW(call(), Interrupted);
  }
  asked = 0;
  const InterruptScope scope(&count_and_go_on);
  EXPECT_NO_THROW(call());
  EXPECT_GE(asked, 1) << "the call is too short to show anything";
}

std::vector<std::int64_t> repeated(std::int64_t id, std::size_t count) { return std::vector<std::int64_t>(count, id); }

TEST(Interrupt, EndsUniqueDraws) {
  const LogUniformParams params{.range_max = 250'000, .num_sampled = 250'000};
  std::vector<std::int64_t> ids(250'000);
  expect_interruptible([&] { log_uniform_sample(params, ids.data()); });
}

TEST(Interrupt, EndsDrawsWithRepetitionsAndTheirCounts) {
  constexpr std::int64_t kDraws = 40'000'000;
  const LogUniformParams params{.range_max = 1 << 20, .num_sampled = kDraws, .unique = false};
  std::vector<std::int64_t> ids(kDraws);
  expect_interruptible([&] { log_uniform_sample(params, ids.data()); });
  std::vector<float> counts(kDraws);
  expect_interruptible([&] { log_uniform_expected_count(params, kDraws, ids, counts.data()); });
}

TEST(Interrupt, EndsRowPlans) {
  std::vector<std::int64_t> labels(8'000'000);
  for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<std::int64_t>(i * 7919 % labels.size());
  expect_interruptible([&] { plan_rows(labels, {}); });
}

TEST(Interrupt, EndsSearchesForAccidentalHits) {
  const auto labels = repeated(1, 60'000'000);
  const auto sampled = repeated(2, 1000);
  expect_interruptible([&] { accidental_hits(labels, 1, sampled); });
}

TEST(Interrupt, EndsLosses) {
  const Problem<float> problem({.batch = 60'000, .num_true = 1, .num_sampled = 4096, .dim = 32, .num_classes = 5000});
  expect_interruptible([&] { nce_loss(problem.params); });
}

TEST(Interrupt, EndsLossesOfTrueClassesAlone) {
  const Problem<double> problem({.batch = 150'000, .num_true = 20, .num_sampled = 1, .dim = 16, .num_classes = 5000});
  expect_interruptible([&] { nce_loss(problem.params); });
}

TEST(Interrupt, AsksTheInnermostScopeOfTheCallingThreadAlone) {
  const LogUniformParams params{.range_max = 250'000, .num_sampled = 250'000};
  std::vector<std::int64_t> ids(250'000);
  const InterruptScope outer(&stop);
  {
    asked = 0;
    const InterruptScope inner(&count_and_go_on);
    EXPECT_NO_THROW(log_uniform_sample(params, ids.data()));
    EXPECT_GE(asked, 1);
  }
  std::thread([&] { EXPECT_NO_THROW(log_uniform_sample(params, ids.data())); }).join();
  EXPECT_THROW(log_uniform_sample(params, ids.data()), Interrupted);
}

}  // namespace
}  // namespace fastnce
