#include "fastnce/loss.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "fastnce/config.h"
#include "problem.h"

namespace fastnce {
namespace {

template <class T>
class SampledLossTest : public ::testing::Test {
 protected:
  static constexpr double kTolerance = 20 * std::numeric_limits<T>::epsilon();

  static void expect_solved(const Problem<T>& p) {
    const Solution expected = solve(p);
    const Sizes& s = p.sizes;
    SCOPED_TRACE(::testing::Message() << "B = " << s.batch << ", T = " << s.num_true << ", S = " << s.num_sampled
                                      << ", D = " << s.dim << ", threads = " << num_threads());
    EXPECT_LE(relative_error(p.loss, expected.loss), kTolerance);
    EXPECT_LE(relative_error(p.grad_inputs, expected.grad_inputs), kTolerance);
    EXPECT_LE(relative_error(p.grad_weights, expected.grad_weights), kTolerance);
    EXPECT_LE(relative_error(p.grad_biases, expected.grad_biases), kTolerance);
  }
};

using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(SampledLossTest, Types);

TYPED_TEST(SampledLossTest, HoldsAtEveryWidthAroundTheVectorLengths) {
  for (std::int64_t dim = 0; dim <= 70; ++dim) {
    Problem<TypeParam> p({.batch = 5, .num_true = 2, .num_sampled = 9, .dim = dim, .num_classes = 50});
    p.run();
    this->expect_solved(p);
  }
}

TYPED_TEST(SampledLossTest, HoldsAroundTheTileBoundaries) {
  for (const std::int64_t batch : {0, 1, 11, 12, 13, 63, 64, 65, 129}) {
    for (const std::int64_t num_sampled : {0, 1, 7, 16, 17, 31, 33, 255, 256, 257}) {
      Problem<TypeParam> p({batch, 1, num_sampled, 33, 1000});
      p.run();
      this->expect_solved(p);
    }
  }
}

TYPED_TEST(SampledLossTest, RemovesEveryDuplicateOfAnAccidentalHit) {
  Problem<TypeParam> p({.batch = 70, .num_true = 3, .num_sampled = 300, .dim = 17, .num_classes = 100}, 30);
  p.request.loss.remove_accidental_hits = true;
  p.run();
  this->expect_solved(p);
}

TYPED_TEST(SampledLossTest, WithoutTrueClassesIsTheSampledPartAlone) {
  Problem<TypeParam> p({.batch = 6, .num_true = 0, .num_sampled = 5, .dim = 4, .num_classes = 9});
  p.run();
  this->expect_solved(p);
}

TYPED_TEST(SampledLossTest, ComputesWhatIsAskedAndTouchesNothingElse) {
  Problem<TypeParam> all({.batch = 30, .num_true = 2, .num_sampled = 40, .dim = 20, .num_classes = 60});
  all.run();
  for (int wanted = 1; wanted < 16; ++wanted) {
    Problem<TypeParam> p({.batch = 30, .num_true = 2, .num_sampled = 40, .dim = 20, .num_classes = 60});
    const auto poison = p.loss[0];
    if (!(wanted & 1)) p.request.wanted.loss = false;
    if (!(wanted & 2)) p.request.wanted.grad_inputs = false;
    if (!(wanted & 4)) p.request.wanted.grad_weights = false;
    if (!(wanted & 8)) p.request.wanted.grad_biases = false;
    p.run();
    const auto expect = [&](bool asked, const auto& got, const auto& full) {
      for (std::size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], asked ? full[i] : poison);
    };
    expect(wanted & 1, p.loss, all.loss);
    expect(wanted & 2, p.grad_inputs, all.grad_inputs);
    expect(wanted & 4, p.grad_weights, all.grad_weights);
    expect(wanted & 8, p.grad_biases, all.grad_biases);
  }
}

TYPED_TEST(SampledLossTest, ReadsShardedAndStridedTables) {
  using T = TypeParam;
  const Sizes sizes{.batch = 9, .num_true = 2, .num_sampled = 11, .dim = 5, .num_classes = 13};
  Problem<T> whole(sizes);
  whole.run();
  for (const Partition partition : {Partition::kDiv, Partition::kMod}) {
    constexpr std::int64_t kShards = 5;
    constexpr std::int64_t kStride = 8;
    Problem<T> p(sizes);
    std::vector<std::vector<T>> memory;
    std::vector<Shard> shards;
    for (std::int64_t i = 0; i < kShards; ++i) {
      const std::int64_t rows = shard_rows(i, sizes.num_classes, kShards);
      memory.emplace_back(static_cast<std::size_t>(rows * kStride));
      shards.push_back({memory.back().data(), rows, kStride});
    }
    for (std::int64_t id = 0; id < sizes.num_classes; ++id) {
      const ShardAddress at = locate_row(id, sizes.num_classes, kShards, partition);
      std::copy_n(&p.weights[id * sizes.dim], sizes.dim, &memory[at.shard][at.row * kStride]);
    }
    p.request.weights = {shards, partition};
    p.run();
    EXPECT_EQ(p.loss, whole.loss);
    EXPECT_EQ(p.grad_weights, whole.grad_weights);
  }
}

TYPED_TEST(SampledLossTest, ShardsWithoutRowsNeedNoMemory) {
  Problem<TypeParam> p({.batch = 3, .num_true = 1, .num_sampled = 2, .dim = 4, .num_classes = 1});
  const Shard shards[] = {p.weight_shard, {nullptr, 0, 4}};  // more shards than rows
  p.request.weights.shards = shards;
  p.run();
  this->expect_solved(p);
}

TYPED_TEST(SampledLossTest, NonFiniteExamplesDoNotSpreadToOthers) {
  using T = TypeParam;
  const Sizes sizes{.batch = 20, .num_true = 1, .num_sampled = 5, .dim = 6, .num_classes = 40};
  Problem<T> clean(sizes);
  clean.run();
  Problem<T> p(sizes);
  p.inputs[3 * sizes.dim] = std::numeric_limits<T>::quiet_NaN();
  p.run();
  for (std::int64_t b = 0; b < sizes.batch; ++b) {
    if (b == 3) {
      EXPECT_TRUE(std::isnan(p.loss[b]));
    } else {
      EXPECT_EQ(p.loss[b], clean.loss[b]);
    }
  }
}

TYPED_TEST(SampledLossTest, AnInfiniteInputGivesAnInfiniteLossNotNan) {
  using T = TypeParam;
  // One sample in a tile padded to a whole vector: padding must not turn infinity into NaN.
  Problem<T> p({.batch = 1, .num_true = 1, .num_sampled = 1, .dim = 1, .num_classes = 2});
  p.weights = {T{1}, T{1}};
  p.inputs = {std::numeric_limits<T>::infinity()};
  p.weight_shard.data = p.weights.data();
  p.request.inputs = p.inputs.data();
  p.request.targets.per_example = 0;
  p.request.wanted = {};
  p.run();
  if (std::is_same_v<T, float> && isa_in_use() == "amx") {
    EXPECT_FALSE(std::isfinite(p.loss[0]));  // parts of 1 that are 0, times infinity: NaN is allowed
  } else {
    EXPECT_EQ(p.loss[0], std::numeric_limits<T>::infinity());
  }
}

}  // namespace
}  // namespace fastnce
