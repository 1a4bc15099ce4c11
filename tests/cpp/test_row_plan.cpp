#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "fastnce/rows.h"

namespace fastnce {
namespace {

TEST(RowPlan, ListsEachTouchedClassOnceAscendingWithItsContributions) {
  const std::int64_t labels[] = {7, 2, 7};
  const std::int64_t sampled[] = {9, 2, 0};
  const RowPlan plan = plan_rows(labels, sampled);
  EXPECT_EQ(plan.ids, (std::vector<std::int64_t>{0, 2, 7, 9}));
  EXPECT_EQ(plan.offsets, (std::vector<std::int64_t>{0, 1, 3, 5, 6}));
  EXPECT_EQ(plan.entries, (std::vector<std::int64_t>{5, 1, 4, 0, 2, 3}));
  EXPECT_EQ(plan.sampled_row, (std::vector<std::int64_t>{3, 1, 0}));
  EXPECT_TRUE(plan.samples_distinct);
}

TEST(RowPlan, NoticesRepeatedSamples) {
  const std::int64_t sampled[] = {4, 5, 4};
  EXPECT_FALSE(plan_rows({}, sampled).samples_distinct);
}

TEST(RowPlan, OfNothingIsEmpty) {
  const RowPlan plan = plan_rows({}, {});
  EXPECT_TRUE(plan.ids.empty());
  EXPECT_EQ(plan.offsets, (std::vector<std::int64_t>{0}));
}

TEST(RowPlan, SortsIdsOfAnyMagnitudeStably) {
  std::mt19937_64 random(1);
  for (const int bits : {1, 7, 8, 9, 22, 40, 63}) {
    for (const std::size_t count : {1u, 100u, 5000u}) {  // both digit widths
      std::vector<std::int64_t> labels(count);
      for (std::int64_t& id : labels) id = static_cast<std::int64_t>(random() >> (64 - bits));
      const RowPlan plan = plan_rows(labels, {});
      EXPECT_TRUE(std::ranges::is_sorted(plan.ids, std::less_equal<>{}) || plan.ids.size() < 2);
      for (std::size_t row = 0; row + 1 < plan.offsets.size(); ++row) {
        for (std::int64_t i = plan.offsets[row]; i < plan.offsets[row + 1]; ++i) {
          ASSERT_EQ(labels[plan.entries[i]], plan.ids[row]);
          ASSERT_TRUE(i == plan.offsets[row] || plan.entries[i - 1] < plan.entries[i]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace fastnce
