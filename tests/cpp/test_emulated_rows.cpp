// Row gradients (cuda/rows/rows.h) on the emulated device: what the public interface does not reach there.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "cuda/rows/rows.h"
#include "device_memory.h"
#include "fastnce/cuda.h"
#include "fastnce/error.h"
#include "problem.h"

namespace fastnce {
namespace {

// Rows of five samples of the classes 7, 3, 9, 3, 1, from sums of the products in `parts` parts.
struct SampledRows {
  static constexpr std::int64_t kDim = 8, kSampled = 5, kPitch = 64;

  explicit SampledRows(std::int64_t parts) : values(static_cast<std::size_t>(parts * kSampled * kPitch)) {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 1'013) / 1'024.0f;
    copy_to_device(weight_parts.data(), values.data(), values.size() * sizeof(float));
    args.order.sampled = sampled.data();
    args.order.num_sampled = args.order.room = kSampled;
    args.order.num_classes = 10;
    args.order.class_bits = 4;
    args.order.sorted = sorted.data();
    args.order.rows_so_far = rows_so_far.data();
    args.order.summary = summary.data();
    args.order.row_count = row_count.data();
    args.dim = kDim;
    args.weight_parts = weight_parts.data();
    args.weight_part_count = parts;
    args.weight_part = kSampled * kPitch;
    args.weight_pitch = kPitch;
    args.bias_sums = bias_sums.data();
    args.row_parts = row_parts.data();
    args.bias_parts = bias_parts.data();
    args.row_ids = row_ids.data();
    args.grad_weights = grad_weights.data();
  }

  std::vector<float> values;
  DeviceArray<float> weight_parts{values.size()}, bias_sums{std::vector<float>(kSampled, 1.0f)};
  DeviceArray<std::int64_t> sampled{std::vector<std::int64_t>{7, 3, 9, 3, 1}};
  DeviceArray<cuda::RowEntry> sorted{kSampled};
  DeviceArray<std::uint32_t> rows_so_far{kSampled};
  DeviceArray<cuda::RowSummary> summary{1};
  DeviceArray<std::int64_t> row_count{1}, row_ids{kSampled};
  DeviceArray<float> row_parts{2 * kDim}, bias_parts{2}, grad_weights{kSampled * kDim};
  cuda::RowsArguments args{};
};

// More parts than loads that a thread issues at once.
TEST(EmulatedRows, AnyNumberOfPartsOfTheProductsIsAdded) {
  for (const std::int64_t parts : {1, 2, 7, 8, 9, 64}) {
    SampledRows rows(parts);
    cuda::queue_row_order(rows.args.order, {});
    cuda::queue_row_sums(rows.args, {});
    const auto sum_of = [&](std::int64_t s, std::int64_t d) {
      float sum = 0.0f;
      for (std::int64_t part = 0; part < parts; ++part) {
        sum += rows.values[static_cast<std::size_t>((part * rows.kSampled + s) * rows.kPitch + d)];
      }
      return sum;
    };
    const std::vector<float> got = rows.grad_weights.values();
    for (std::int64_t d = 0; d < rows.kDim; ++d) {
      const auto row = [&](std::int64_t r) { return got[static_cast<std::size_t>(r * rows.kDim + d)]; };
      EXPECT_EQ(row(0), sum_of(4, d));
      EXPECT_EQ(row(1), sum_of(1, d) + sum_of(3, d));
      EXPECT_EQ(row(2), sum_of(0, d));
      EXPECT_EQ(row(3), sum_of(2, d));
    }
  }
}

// Of the emulated device: it notices where one of the two waits of a side stream is missing.
TEST(EmulatedRows, OnASideStreamBothWaitsAreNeeded) {
  char handle = 0;
  const cuda::Stream side{0, &handle};
  const auto order_on_side = [&](const SampledRows& rows, bool fork) {
    cuda::runtime::fill_bytes(rows.sampled.data(), 0, 40, {});
    if (fork) cuda::wait_for(side, {});
    cuda::queue_row_order(rows.args.order, side);
  };
  SampledRows rows(1);
  EXPECT_THROW(order_on_side(rows, false), DeviceError);
  order_on_side(rows, true);
  EXPECT_THROW(cuda::queue_row_sums(rows.args, {}), DeviceError);
  cuda::wait_for({}, side);
  cuda::queue_row_sums(rows.args, {});
  EXPECT_EQ(rows.row_count.values()[0], 1);
}

TEST(EmulatedRows, AnExceptionLeavesNoWorkBesideTheStream) {
  const Problem<float> p({.batch = 1, .num_true = 2'000, .num_sampled = 0, .dim = 4, .num_classes = 300});
  const DeviceArray<std::int64_t> labels(p.labels), ids(2'000), row_count(1);
  const DeviceArray<float> grad_biases(2'000);
  LossRequest request = p.request;  // most arrays are the host's: the first kernel on the stream fails
  request.targets.ids = labels.data();
  request.wanted = {.loss = false, .grad_biases = true};
  const std::size_t bytes = cuda::plan(request, 0).workspace_bytes;
  void* const workspace = cuda::allocate(bytes, {});
  void* const released = cuda::allocate(4 * sizeof(float), {});
  request.inputs = released;
  cuda::release(released, {});
  const LossOutputs outputs{.grad_biases = grad_biases.data(), .row_ids = ids.data(), .row_count = row_count.data()};
  EXPECT_THROW(cuda::run(cuda::plan(request, 0), outputs, {workspace, bytes}, {}), DeviceError);
  EXPECT_NO_THROW(cuda::release(workspace, {}));
}

}  // namespace
}  // namespace fastnce
