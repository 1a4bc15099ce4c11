// How the CUDA backend lays a call over tiles, chunks and blocks: pure functions, checked without a device.
#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <vector>

#include "cuda/gemm/geometry.h"
#include "cuda/gemm/slice.h"
#include "cuda/sampler/sampler.h"
#include "fastnce/sampler.h"

namespace fastnce::cuda {
namespace {

constexpr runtime::Limits kH100{.multiprocessors = 132, .l2_bytes = 50 << 20, .shared_bytes = 228 << 10};
constexpr runtime::Limits kLimits[] = {kH100,
                                       {.multiprocessors = 108, .l2_bytes = 40 << 20, .shared_bytes = 164 << 10},
                                       {.multiprocessors = 128, .l2_bytes = 72 << 20, .shared_bytes = 100 << 10},
                                       {.multiprocessors = 4, .l2_bytes = 1 << 18, .shared_bytes = 100 << 10}};

// Of every pair of products that a call may need.
constexpr Parts kParts[] = {{1, 1}, {2, 1}, {2, 2}, {3, 1}, {3, 3}};

std::vector<TilePlan> plans() {
  std::vector<TilePlan> all;
  for (const Parts parts : kParts) {
    all.insert(all.end(),
               {logits_plan(parts), softmax_logits_plan(parts), product_plan(64, parts), product_plan(128, parts)});
  }
  return all;
}

// Blocks of dX and dW that run at once.
std::int64_t product_slots(const Geometry& g, Parts parts, const runtime::Limits& limits) {
  return limits.multiprocessors * product_plan(g.dim_columns, parts).blocks(limits.shared_bytes);
}

std::vector<LossRequest> problems() {
  std::vector<LossRequest> all;
  for (const Precision precision : {Precision::kHighest, Precision::kHigh, Precision::kMedium}) {
    for (const std::int64_t batch : {0, 1, 127, 128, 129, 2'560, 32'768, 1'000'003}) {
      for (const std::int64_t dim : {0, 1, 64, 65, 128, 512, 1'000, 1'024}) {
        for (const std::int64_t num_sampled : {0, 1, 64, 128, 129, 8'192, 100'000}) {
          LossRequest p;
          p.precision = precision;
          p.batch = batch;
          p.dim = dim;
          p.negatives.count = num_sampled;
          all.push_back(p);
        }
      }
    }
  }
  return all;
}

TEST(CudaGeometry, ChunksCoverTheBatchAndNoneIsEmpty) {
  for (const runtime::Limits& limits : kLimits) {
    for (const LossRequest& p : problems()) {
      const Geometry g = geometry_of(p, limits);
      EXPECT_GE(g.batch(), p.batch);
      if (p.batch > 0) {
        EXPECT_LT((g.chunks - 1) * g.chunk_rows, p.batch);
      }
      EXPECT_EQ(g.chunk_rows % kTileRows, 0);
      EXPECT_EQ(g.samples % kSampleColumns, 0);
      EXPECT_EQ(g.dim % g.dim_columns, 0);
      EXPECT_LT(g.samples - p.negatives.count, kSampleColumns);
      EXPECT_LT(g.dim - p.dim, 128);
    }
  }
}

TEST(CudaGeometry, GradientsOfAChunkFitHalfTheL2CacheUnlessOneTileDoesNot) {
  for (const runtime::Limits& limits : kLimits) {
    for (const LossRequest& p : problems()) {
      const Geometry g = geometry_of(p, limits);
      const std::int64_t bytes = g.chunk_rows * g.samples * 2 * parts_of(p).order;
      if (g.chunk_rows > kTileRows) {
        EXPECT_LE(bytes, limits.l2_bytes / 2);
      }
    }
  }
}

TEST(CudaGeometry, GridsStayWithinTheLimitsOfCuda) {
  constexpr std::int64_t kMostAlongY = 65'535;
  for (const runtime::Limits& limits : kLimits) {
    for (const LossRequest& p : problems()) {
      const Geometry g = geometry_of(p, limits);
      EXPECT_LE(g.chunk_tiles(), kMostAlongY);
      EXPECT_LE(g.sample_tiles(), kMostAlongY);
    }
  }
}

TEST(CudaGeometry, ScoresOfABlockFitHalfTheL2CacheUnlessOneTileDoesNot) {
  for (const runtime::Limits& limits : kLimits) {
    for (const LossRequest& p : problems()) {
      Scoring scoring = p;
      scoring.num_classes = p.negatives.count;
      const ScoreGeometry g = score_geometry(scoring, limits);
      EXPECT_EQ(g.rows % kTileRows, 0);
      EXPECT_EQ(g.columns % kSampleColumns, 0);
      EXPECT_LT(g.columns - scoring.num_classes, kSampleColumns);
      EXPECT_LT(g.rows - p.batch, kTileRows + (p.batch == 0 ? 1 : 0));
      EXPECT_GE(g.dim, p.dim);
      if (g.rows > kTileRows || g.columns > kSampleColumns) {
        EXPECT_LE(g.rows * g.columns * 4, limits.l2_bytes / 2);
      }
    }
  }
}

TEST(CudaGeometry, SplittingASumFillsTheDeviceWithoutLeavingIdleParts) {
  const std::int64_t slots = kH100.multiprocessors * product_plan(128, {1, 1}).blocks(kH100.shared_bytes);
  EXPECT_EQ(splits(1'000, 256, slots), 1);
  EXPECT_EQ(splits(80, 256, slots), 3);  // dX of 2,560 examples by 512 columns
  EXPECT_EQ(splits(1, 128, slots), 32);  // dW of 64 classes by 128 columns over 4,096 examples
  EXPECT_EQ(splits(8, 0, slots), 1);     // nothing sampled
  for (std::int64_t tiles = 1; tiles < 400; ++tiles) {
    for (std::int64_t slices = 1; slices < 300; ++slices) {
      const std::int64_t parts = splits(tiles, slices, slots);
      EXPECT_GE(slices / parts, slices < 4 ? 1 : 4);
      if (parts > 1) {
        EXPECT_LE(parts * tiles, slots);
      }
    }
  }
}

// More than half of the blocks that run at once, unless the sums are too short or in 64 parts already.
TEST(CudaGeometry, BothGradientsFillEveryDevice) {
  for (const runtime::Limits& limits : kLimits) {
    for (const LossRequest& p : problems()) {
      const Geometry g = geometry_of(p, limits);
      const std::int64_t slots = product_slots(g, parts_of(p), limits);
      const auto expect_full = [&](std::int64_t tiles, std::int64_t parts, std::int64_t slices) {
        if (tiles == 0 || parts == 64 || parts + 1 > slices / 4) return;
        EXPECT_GT(2 * tiles * parts, slots) << "B = " << p.batch << ", D = " << p.dim << ", S = " << p.negatives.count;
      };
      expect_full(g.chunk_tiles() * g.dim_tiles(), g.input_splits, g.samples / kTileDepth);
      expect_full(g.sample_tiles() * g.dim_tiles(), g.weight_splits, g.chunk_rows / kTileDepth);
    }
  }
}

// 64 columns take 128 threads: two blocks, or three where registers allow it.
TEST(CudaGeometry, NarrowTablesAreSplitForAllBlocksOfAMultiprocessor) {
  LossRequest recsys;
  recsys.batch = 8'192;
  recsys.dim = 64;
  recsys.negatives.count = 4'096;
  for (const Precision precision : {Precision::kHighest, Precision::kHigh, Precision::kMedium}) {
    recsys.precision = precision;
    const Geometry g = geometry_of(recsys, kH100);
    const std::int64_t slots = kH100.multiprocessors * (precision == Precision::kMedium ? 3 : 2);
    EXPECT_GT(g.chunk_tiles() * g.input_splits, slots * 3 / 4);
    EXPECT_LE(g.chunk_tiles() * g.input_splits, slots);
    EXPECT_LE(g.sample_tiles() * g.weight_splits, slots);
  }
}

TEST(CudaGeometry, BlocksFitTheMultiprocessorThatTheyShare) {
  for (const TilePlan& plan : plans()) {
    EXPECT_GE(plan.stages(), 2);
    EXPECT_LE(plan.shared_bytes(), kMostSharedBytes);
    EXPECT_GE(plan.blocks(), 1);
    EXPECT_LE(plan.blocks() * plan.threads() * plan.registers, kRegisters);
    EXPECT_EQ(plan.blocks(kH100.shared_bytes), plan.blocks());  // there registers are what limits
    for (const runtime::Limits& limits : kLimits) {
      EXPECT_GE(plan.blocks(limits.shared_bytes), 1);
      EXPECT_LE(plan.blocks(limits.shared_bytes) * (plan.shared_bytes() + kReservedShared), limits.shared_bytes);
    }
  }
}

// A matrix load reads 16 bytes of eight rows at a time: without conflicts if these are eight different sixteenths of
// the 128 bytes of all banks. And every chunk has a place of its own.
template <Contiguous kLayout, int kOuter>
void expect_no_conflicts() {
  using Layout = Slice<kLayout, kOuter>;
  constexpr int kRows = Layout::kBytes / Layout::kRowBytes;
  std::set<int> places;
  for (int chunk = 0; chunk < Layout::kChunksPerRow; ++chunk) {
    for (int first = 0; first < kRows; first += 8) {
      std::set<int> banks;
      for (int row = first; row < first + 8; ++row) {
        const int offset = Layout::offset(row, chunk);
        EXPECT_EQ(offset % 16, 0);
        EXPECT_LT(offset, Layout::kBytes);
        banks.insert(offset / 16 % 8);
        places.insert(offset);
      }
      EXPECT_EQ(banks.size(), 8u) << "rows from " << first << ", chunk " << chunk;
    }
  }
  EXPECT_EQ(places.size(), static_cast<std::size_t>(Layout::kBytes / 16));
}

TEST(CudaGeometry, MatrixLoadsFindTheirRowsInDifferentBanks) {
  expect_no_conflicts<Contiguous::kReduced, 64>();
  expect_no_conflicts<Contiguous::kReduced, 128>();
  expect_no_conflicts<Contiguous::kOuter, 64>();
  expect_no_conflicts<Contiguous::kOuter, 128>();
}

// Else one block must make up for it alone.
TEST(CudaGeometry, PlannedDrawsSufficeUnlessMostClassesAreSampled) {
  constexpr std::int64_t kShapes[][2] = {{50'000, 64},     {100'000, 1'024}, {800'000, 8'192},  {2'000'000, 4'096},
                                         {200'000, 1'024}, {50'000, 8'192},  {100'000'000, 64}, {10'000, 1'000}};
  for (const auto& [range_max, num_sampled] : kShapes) {
    const std::int64_t planned = planned_draws({.distribution = {.range_max = range_max}, .num_sampled = num_sampled});
    EXPECT_EQ(planned % 2, 0);
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      std::vector<std::int64_t> ids(static_cast<std::size_t>(num_sampled));
      const std::int64_t tries = fastnce::sample_candidates(
          {.distribution = {.range_max = range_max}, .num_sampled = num_sampled, .seed = seed, .seed2 = 1}, ids.data());
      EXPECT_LE(tries, planned) << "V = " << range_max << ", S = " << num_sampled;
      EXPECT_GE(tries, planned / 2 - 64) << "V = " << range_max << ", S = " << num_sampled;
    }
  }
}

// What a sampler's tables and the loss's planes take grows with S and B, not with their product nor with V.
TEST(CudaGeometry, TheSamplersWorkspaceIsLinearInTheSamples) {
  for (const std::int64_t num_sampled : {1, 64, 8'192, 1'000'000}) {
    for (const std::int64_t range_max : {1'000'000, 1'000'000'000}) {
      const SamplerParams params{.distribution = {.range_max = range_max}, .num_sampled = num_sampled};
      const SampleRequest request{.sources = {&params, 1}, .true_classes = {}};
      EXPECT_LE(sampler_workspace_bytes(request), 4'096u + 400u * static_cast<std::size_t>(num_sampled + 64));
    }
  }
}

}  // namespace
}  // namespace fastnce::cuda
