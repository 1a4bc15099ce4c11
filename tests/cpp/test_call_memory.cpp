// A step of a small problem takes no memory from the heap once the calling thread has made such steps; a large one
// takes no more than its sizes say.
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>

#include "fastnce/sampler.h"
#include "problem.h"

namespace {

thread_local std::int64_t allocations = 0, allocated_bytes = 0;

void* counted(std::size_t size, std::size_t alignment) {
  ++allocations;
  allocated_bytes += static_cast<std::int64_t>(size);
  void* memory = std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  return memory != nullptr ? memory : throw std::bad_alloc();
}

}  // namespace

// The program's own, as [replacement.functions] allows; array and nothrow forms call these.
void* operator new(std::size_t size) { return counted(size, __STDCPP_DEFAULT_NEW_ALIGNMENT__); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return counted(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace fastnce {
namespace {

TEST(CallMemory, SmallStepsAllocateNothingOnceMadeBefore) {
  Problem<float> p({.batch = 128, .num_true = 1, .num_sampled = 64, .dim = 128, .num_classes = 50'000});
  p.request.loss.remove_accidental_hits = true;
  p.request.negatives.sampler = {
      .distribution = {.range_max = p.sizes.num_classes}, .num_sampled = 64, .seed = 1, .seed2 = 2};
  // No more rows than that can be touched.
  p.grad_weights.resize(static_cast<std::size_t>((128 + 64) * p.sizes.dim));
  p.grad_biases.resize(128 + 64);
  p.outputs.grad_weights = p.grad_weights.data();
  p.outputs.grad_biases = p.grad_biases.data();
  LossPlan planned;
  const auto hundred_steps = [&] {
    p.request.negatives.sampler->call = 0;
    for (int i = 0; i < 100; ++i) {
      plan(p.request, planned);
      run(planned, p.outputs);
      ++p.request.negatives.sampler->call;
    }
  };
  hundred_steps();  // how many draws and hits there are varies from step to step
  allocations = 0;
  hundred_steps();
  EXPECT_EQ(allocations, 0);
}

// Labels of one class share the list of its hits: B S of them take O(B + S).
TEST(CallMemory, PlansTakeNoMemoryForEachAccidentalHit) {
  Problem<float> p({.batch = 3000, .num_true = 1, .num_sampled = 2000, .dim = 1, .num_classes = 10}, 1);
  p.request.loss.remove_accidental_hits = true;
  p.request.wanted = {};
  allocated_bytes = 0;
  LossPlan planned = plan(p.request);
  EXPECT_LT(allocated_bytes, 1 << 20);
  p.outputs = {.loss = p.loss.data()};
  run(planned, p.outputs);
  const Solution expected = solve(p);
  EXPECT_LE(relative_error(p.loss, expected.loss), tolerance(Precision::kHighest));
}

// Where every example has samples of its own, G is kept, one number for each, and never a row for each. The rows of all
// samples would take 64 MB here, those of the few classes 50 KB.
TEST(CallMemory, SamplesOfEveryExampleTakeNoRowEach) {
  constexpr std::int64_t kBatch = 512, kSampled = 128, kDim = 256;
  Problem<float> p({.batch = kBatch, .num_true = 1, .num_sampled = kBatch * kSampled, .dim = kDim, .num_classes = 50});
  for (const LossFamily family : {LossFamily::kLogistic, LossFamily::kSoftmax}) {
    p.request.loss = {.family = family, .remove_accidental_hits = true};
    p.request.negatives.groups = kBatch;
    p.request.negatives.count = kSampled;
    allocated_bytes = 0;
    p.run();
    EXPECT_LT(allocated_bytes, 60 * kBatch * kSampled);
    LossPlan planned;
    for (int i = 0; i < 2; ++i) plan(p.request, planned);
    run(planned, p.outputs);
    allocations = 0;
    run(planned, p.outputs);
    EXPECT_EQ(allocations, 0);
  }
}

}  // namespace
}  // namespace fastnce
