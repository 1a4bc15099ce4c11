// Tables and inputs of every element type, width and alignment on a CUDA device, against the long double solution of
// the numbers that are stored. Needs a device, or the emulated one.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "cuda/gemm/geometry.h"
#include "device_memory.h"
#include "fastnce/cuda.h"
#include "problem.h"

namespace fastnce {
namespace {

constexpr DType kTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};

// Rounds to the nearest number of the type, ties to even; its bits.
std::uint32_t stored(float value, DType dtype) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (dtype == DType::kFloat32) return bits;
  if (dtype == DType::kBFloat16) return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
  const std::uint32_t sign = bits >> 16 & 0x8000;
  const float magnitude = std::abs(value);
  if (magnitude < 0x1p-14f) return sign | static_cast<std::uint32_t>(std::nearbyint(magnitude * 0x1p24f));
  const std::uint32_t rounded = (bits & 0x7FFFFFFF) + 0xFFF + (bits >> 13 & 1);
  return sign | ((rounded >> 13) - ((127 - 15) << 10));
}

float value_of(std::uint32_t bits, DType dtype) {
  if (dtype == DType::kFloat32) return std::bit_cast<float>(bits);
  if (dtype == DType::kBFloat16) return std::bit_cast<float>(bits << 16);
  const int exponent = static_cast<int>(bits >> 10 & 0x1F);
  const auto fraction = static_cast<float>(bits & 0x3FF);
  const float magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024.0f + fraction, exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

// Where rows lie: `offset` elements behind an aligned address, `gap` elements between them, the last row first if
// `backwards`.
struct Layout {
  std::int64_t offset = 0, gap = 0;
  bool backwards = false;
};
constexpr Layout kLayouts[] = {{}, {.gap = 8}, {.offset = 1}, {.gap = 1}, {.gap = 3, .backwards = true}};

// Rows on the device. Rounds the host's numbers to what is stored; NaN lies between the rows.
class StoredRows {
 public:
  StoredRows(float* values, std::int64_t rows, std::int64_t dim, DType dtype, const Layout& layout)
      : stride_(dim + layout.gap),
        bytes_(element_bytes(dtype)),
        first_((layout.offset + (layout.backwards ? (rows - 1) * stride_ : 0)) * bytes_),
        memory_(filled(values, rows, dim, dtype, layout)) {
    if (layout.backwards) stride_ = -stride_;
  }
  const void* data() const { return memory_.data() + first_; }
  std::int64_t stride() const { return stride_; }

 private:
  std::vector<unsigned char> filled(float* values, std::int64_t rows, std::int64_t dim, DType dtype,
                                    const Layout& layout) const {
    std::vector<unsigned char> memory(static_cast<std::size_t>((layout.offset + rows * stride_) * bytes_), 0xFF);
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t d = 0; d < dim; ++d) {
        float& value = values[row * dim + d];
        const std::uint32_t bits = stored(value, dtype);
        value = value_of(bits, dtype);
        const std::int64_t at = first_ + ((layout.backwards ? -row : row) * stride_ + d) * bytes_;
        std::memcpy(&memory[static_cast<std::size_t>(at)], &bits, static_cast<std::size_t>(bytes_));
      }
    }
    return memory;
  }

  std::int64_t stride_, bytes_, first_;
  DeviceArray<unsigned char> memory_;
};

struct Types {
  DType weights, inputs;
};

class CudaElementTypes : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string reason = cuda::unavailable_reason();
    if (!reason.empty()) GTEST_SKIP() << "SKIPPED: no CUDA device: " << reason;
  }

  // Computes p on the device, into its own arrays. The second half of the table is a shard with a layout of its own.
  // dX comes in `grad_inputs`.
  static void run(Problem<float>& p, Precision precision, Types types, const Layout& layout = {},
                  const Layout& second_layout = {}, DType grad_inputs = DType::kFloat32) {
    const Sizes& s = p.sizes;
    const std::int64_t half = (s.num_classes + 1) / 2;
    const StoredRows first(p.weights.data(), half, s.dim, types.weights, layout);
    const StoredRows second(p.weights.data() + half * s.dim, s.num_classes - half, s.dim, types.weights, second_layout);
    const StoredRows inputs(p.inputs.data(), s.batch, s.dim, types.inputs, layout);
    const StoredRows biases(p.biases.data(), s.num_classes, 1, types.weights, {});
    const DeviceArray<float> true_count(p.true_count), sampled_count(p.sampled_count), grad_loss(p.grad_loss);
    const DeviceArray<std::int64_t> labels(p.labels), sampled(p.sampled);
    const std::size_t rows = p.labels.size() + p.sampled.size();
    const DeviceArray<float> loss(p.loss.size()), grad_weights(rows * static_cast<std::size_t>(s.dim)),
        grad_biases(rows);
    const DeviceArray<float> wide(p.inputs.size());
    const DeviceArray<std::uint16_t> narrow(p.inputs.size());
    const DeviceArray<std::int64_t> row_ids(rows), row_count(1);
    const Shard shards[] = {{first.data(), half, first.stride()},
                            {second.data(), s.num_classes - half, second.stride()}};
    const Shard bias_shard{biases.data(), s.num_classes, 1};
    LossRequest request = p.request;
    request.precision = precision;
    request.weights = {.shards = shards};
    request.biases = {.shards = {&bias_shard, 1}};
    request.weights_dtype = request.biases_dtype = types.weights;
    request.inputs_dtype = types.inputs;
    request.inputs = inputs.data();
    request.inputs_stride = inputs.stride();
    request.targets.ids = labels.data();
    request.targets.expected_count = true_count.data();
    request.negatives.ids = sampled.data();
    request.negatives.expected_count = sampled_count.data();
    request.grad_loss = grad_loss.data();
    compute_on_device(request,
                      {.loss = loss.data(),
                       .grad_inputs = grad_inputs == DType::kFloat32 ? static_cast<void*>(wide.data()) : narrow.data(),
                       .grad_weights = grad_weights.data(),
                       .grad_biases = grad_biases.data(),
                       .grad_inputs_dtype = grad_inputs,
                       .row_ids = row_ids.data(),
                       .row_count = row_count.data()});
    p.loss = loss.values();
    p.grad_inputs = wide.values();
    if (grad_inputs != DType::kFloat32) {
      const std::vector<std::uint16_t> bits = narrow.values();
      for (std::size_t i = 0; i < bits.size(); ++i) p.grad_inputs[i] = value_of(bits[i], grad_inputs);
    }
    ASSERT_EQ(row_count.values()[0], std::ssize(p.plan.ids));
    p.grad_weights = grad_weights.values();
    p.grad_weights.resize(p.plan.ids.size() * static_cast<std::size_t>(s.dim));
    p.grad_biases = grad_biases.values();
    p.grad_biases.resize(p.plan.ids.size());
  }

  // By the formulas, after run() has rounded the numbers. `logits`: allowed where nothing but the logits matters.
  static void expect_solved(const Problem<float>& p, double allowed, double logits) {
    const Solution expected = solve(p);
    EXPECT_LE(relative_error(p.loss, expected.loss), logits);
    EXPECT_LE(relative_error(p.grad_biases, expected.grad_biases), logits);
    EXPECT_LE(relative_error(p.grad_inputs, expected.grad_inputs), allowed);
    EXPECT_LE(relative_error(p.grad_weights, expected.grad_weights), allowed);
  }
};

TEST_F(CudaElementTypes, RowsOfEveryTypeWidthAndAlignmentAreReadExactly) {
  constexpr std::int64_t kTrue[] = {1, 0, 2, 5};
  std::size_t n = 0;
  for (const std::int64_t dim : {1, 3, 7, 8, 9, 31, 64, 65}) {
    for (const DType weights : kTypes) {
      for (const DType inputs : kTypes) {
        const Layout& layout = kLayouts[n % std::size(kLayouts)];
        const Layout& second = kLayouts[n / 2 % std::size(kLayouts)];
        const std::int64_t num_true = kTrue[n % std::size(kTrue)];
        SCOPED_TRACE(::testing::Message() << "D = " << dim << ", T = " << num_true << ", weights "
                                          << static_cast<int>(weights) << ", inputs " << static_cast<int>(inputs));
        Problem<float> p({.batch = 9, .num_true = num_true, .num_sampled = 10, .dim = dim, .num_classes = 40});
        run(p, Precision::kHigh, {weights, inputs}, layout, second);
        expect_solved(p, tolerance(Precision::kHigh), tolerance(Precision::kHigh));
        ++n;
      }
    }
  }
}

// More vectors than a warp loads at once, and rows of dX wider than a block of threads.
TEST_F(CudaElementTypes, WideRowsAreReadExactly) {
  for (const DType dtype : kTypes) {
    for (const Layout& layout : {Layout{}, Layout{.offset = 1}}) {
      Problem<float> p({.batch = 3, .num_true = 2, .num_sampled = 4, .dim = 1'032, .num_classes = 6});
      run(p, Precision::kHigh, {dtype, dtype}, layout, layout);
      expect_solved(p, tolerance(Precision::kHigh), tolerance(Precision::kHigh));
    }
  }
}

// float16 would lose 3 of its 11 bits if it became bfloat16.
TEST_F(CudaElementTypes, TablesAndInputsOfOneHalfTypeHaveExactLogitsAtMediumPrecision) {
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    for (const std::int64_t dim : {33, 128}) {
      SCOPED_TRACE(::testing::Message() << "type " << static_cast<int>(dtype) << ", D = " << dim);
      Problem<float> p({.batch = 130, .num_true = 1, .num_sampled = 140, .dim = dim, .num_classes = 300});
      run(p, Precision::kMedium, {dtype, dtype});
      expect_solved(p, tolerance(Precision::kMedium), halves_logits_tolerance(Precision::kMedium));
    }
  }
}

// Every product of one part of the operands and any number of G's. The exponentials are rounded, too: only the loss is
// exact.
TEST_F(CudaElementTypes, SoftmaxOfOneHalfTypeIsAccurateAtEveryLevel) {
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    for (const Precision precision : kLevels) {
      SCOPED_TRACE(::testing::Message() << "type " << static_cast<int>(dtype) << ", precision "
                                        << static_cast<int>(precision));
      Problem<float> p({.batch = 130, .num_true = 2, .num_sampled = 140, .dim = 33, .num_classes = 300}, 40);
      p.request.loss = {.family = LossFamily::kSoftmax, .remove_accidental_hits = true};
      run(p, precision, {dtype, dtype});
      const Solution expected = solve(p);
      EXPECT_LE(relative_error(p.loss, expected.loss), halves_logits_tolerance(precision));
      EXPECT_LE(relative_error(p.grad_inputs, expected.grad_inputs), tolerance(precision));
      EXPECT_LE(relative_error(p.grad_weights, expected.grad_weights), tolerance(precision));
      EXPECT_LE(relative_error(p.grad_biases, expected.grad_biases), tolerance(precision));
    }
  }
}

TEST_F(CudaElementTypes, WhereRowsLieDoesNotChangeABit) {
  constexpr Sizes kSizes{.batch = 5, .num_true = 2, .num_sampled = 6, .dim = 127, .num_classes = 20};
  for (const DType weights : kTypes) {
    for (const DType inputs : kTypes) {
      Problem<float> aligned(kSizes);
      run(aligned, Precision::kMedium, {weights, inputs}, {.gap = 1}, {.gap = 1});
      Problem<float> unaligned(kSizes);
      run(unaligned, Precision::kMedium, {weights, inputs}, {.offset = 1});
      EXPECT_EQ(unaligned.loss, aligned.loss);
      EXPECT_EQ(unaligned.grad_inputs, aligned.grad_inputs);
      EXPECT_EQ(unaligned.grad_weights, aligned.grad_weights);
      EXPECT_EQ(unaligned.grad_biases, aligned.grad_biases);
    }
  }
}

TEST_F(CudaElementTypes, SumsInManyPartsAreWhole) {
  Problem<float> p({.batch = 5, .num_true = 5, .num_sampled = 1'500, .dim = 33, .num_classes = 2'000});
  p.request.precision = Precision::kMedium;
  EXPECT_GT(cuda::geometry_of(p.request, cuda::runtime::limits(0)).input_splits, 8);
  run(p, Precision::kMedium, {DType::kBFloat16, DType::kBFloat16});
  expect_solved(p, tolerance(Precision::kMedium), halves_logits_tolerance(Precision::kMedium));
}

TEST_F(CudaElementTypes, GradientsOfInputsAreRoundedOnceWhereverTheirRowsLie) {
  for (const std::int64_t dim : {1, 3, 4, 8, 30, 64}) {
    const Sizes sizes{.batch = 7, .num_true = 1, .num_sampled = 10, .dim = dim, .num_classes = 40};
    for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
      Problem<float> wide(sizes);
      run(wide, Precision::kMedium, {dtype, dtype});
      Problem<float> narrow(sizes);
      run(narrow, Precision::kMedium, {dtype, dtype}, {}, {}, dtype);
      for (float& value : wide.grad_inputs) value = value_of(stored(value, dtype), dtype);
      EXPECT_EQ(narrow.grad_inputs, wide.grad_inputs) << "D = " << dim;
    }
  }
}

}  // namespace
}  // namespace fastnce
