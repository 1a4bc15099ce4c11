// Kernels per example and per sampled class after the GEMMs: sums of parts, many of which are under way at once. The
// losses are added up in float64, gradients in float32, as on the CPU.
#include "cuda/loss/examples.h"

#include <bit>

#include "cuda/gemm/elements.cuh"
#include "cuda/rows/columns.cuh"
#include "cuda/runtime/ids.cuh"

namespace fastnce::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kBlocks = 3;  // at least, of a multiprocessor

FASTNCE_DEVICE int lane_index() { return thread_index() % kWarp; }

// Some blocks add up losses, the others dX.
struct FinishBlocks {
  FinishExamplesArguments args;
  std::int64_t loss_blocks;
  int row_bits;  // 2^row_bits threads for a row of dX
};

constexpr int kExamplesPerWarp = 8;  // of the losses: so many of a tile are 32 bytes, the least that memory gives

// Four threads of a warp share the parts of an example.
FASTNCE_DEVICE void finish_losses(const FinishExamplesArguments& args, std::int64_t block) {
  constexpr int kThreadsPerExample = kWarp / kExamplesPerWarp;
  constexpr int kAtOnce = 16;  // loads in flight
  const std::int64_t in_chunk =
      (block * kWarps + thread_index() / kWarp) * kExamplesPerWarp + lane_index() % kExamplesPerWarp;
  const int share = lane_index() / kExamplesPerWarp;
  const bool exists = in_chunk < args.examples;
  const std::int64_t parts = exists ? args.loss_part_count : 0;
  const std::int64_t b = args.first + in_chunk;
  const std::int64_t classes = exists ? args.targets.count(b) : 0;
  const float* const true_loss = args.true_loss + (exists ? args.targets.begin(b) : 0);
  const float own = share < classes ? true_loss[share] : 0.0f;  // under way while the parts are
  double sum = 0.0;  // float64, so that the number of tiles does not show in the result
  for (std::int64_t first = share; first < parts; first += kAtOnce * kThreadsPerExample) {
    float loss[kAtOnce];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const std::int64_t part = first + k * kThreadsPerExample;
      loss[k] = part < parts ? args.loss_parts[row_offset(part, args.loss_pitch) + in_chunk] : 0.0f;
    }
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) sum += loss[k];
  }
  sum += own;
  for (std::int64_t t = share + kThreadsPerExample; t < classes; t += kThreadsPerExample) sum += true_loss[t];
  for (int distance = kWarp / 2; distance >= kExamplesPerWarp; distance /= 2) sum += shuffle_xor(sum, distance);
  if (!exists || share != 0) return;
  const bool is_broken = args.targets.lists.is_broken(b) || args.exclude.is_broken(b);
  args.loss[b] = is_broken ? __builtin_nanf("") : static_cast<float>(sum);
}

// A thread adds up four columns of a row: parts of the sum over the sampled classes, then true classes.
template <DType kWeights>
FASTNCE_DEVICE void finish_inputs(const FinishExamplesArguments& args, int row_bits, std::int64_t block) {
  constexpr int kColumns = 4;
  constexpr int kPartsAtOnce = 8;  // loads in flight, with those of the true classes
  constexpr int kClassesAtOnce = 2;
  using Part = Elements<DType::kFloat32, kColumns>;
  using Weights = Elements<kWeights, kColumns>;
  const std::int64_t in_chunk = block * (kThreads >> row_bits) + (thread_index() >> row_bits);
  if (in_chunk >= args.examples) return;
  const std::int64_t b = args.first + in_chunk;
  const std::int64_t first_class = args.targets.begin(b);
  const auto classes = static_cast<int>(args.targets.count(b));
  const bool takes_part = args.takes_part == nullptr || args.takes_part[b];
  const std::int64_t to_bytes = element_bytes(args.grad_inputs_dtype);
  const int first_column = (thread_index() & ((1 << row_bits) - 1)) * kColumns;
  for (std::int64_t d = first_column; d < args.dim; d += kColumns << row_bits) {
    const float* const parts = args.input_parts + row_offset(in_chunk, args.input_pitch) + d;
    const std::int64_t columns = args.dim - d;
    const int part_count = takes_part ? static_cast<int>(args.input_part_count) : 0;
    float sum[kColumns] = {};
    int next_part = 0;
    int next_class = 0;
    while (next_part < part_count || next_class < classes) {
      std::int64_t id[kClassesAtOnce];
      float factor[kClassesAtOnce];
      Part part[kPartsAtOnce];
      Weights weights[kClassesAtOnce];
#pragma unroll
      for (int k = 0; k < kClassesAtOnce; ++k) {
        const bool exists = next_class + k < classes;
        id[k] = exists ? args.targets.ids[first_class + next_class + k] : -1;
        factor[k] = exists ? args.true_grad[first_class + next_class + k] : 0.0f;
      }
#pragma unroll
      for (int k = 0; k < kPartsAtOnce; ++k) {
        if (next_part + k < part_count) part[k].load(parts + row_offset(next_part + k, args.input_part));
      }
#pragma unroll
      for (int k = 0; k < kClassesAtOnce; ++k) {
        if (!is_valid_id(id[k], args.num_classes) || is_padding(args.targets.padding, id[k])) continue;
        const char* const from = Weights::at(args.weights.row(id[k]).data, d);
        if (columns >= kColumns && Weights::is_aligned(from)) {
          weights[k].load(from);
        } else {
          weights[k].gather(from, columns);
        }
      }
#pragma unroll
      for (int k = 0; k < kPartsAtOnce; ++k) {
#pragma unroll
        for (int i = 0; i < kColumns; ++i) sum[i] += part[k][i];
      }
#pragma unroll
      for (int k = 0; k < kClassesAtOnce; ++k) {
#pragma unroll
        for (int i = 0; i < kColumns; ++i) sum[i] += factor[k] * weights[k][i];
      }
      next_part += kPartsAtOnce;
      next_class += kClassesAtOnce;
    }
#pragma unroll
    for (int i = 0; i < kColumns; ++i) sum[i] *= args.input_scale;
    char* const to = static_cast<char*>(args.grad_inputs) + (row_offset(b, args.dim) + d) * to_bytes;
    if (columns >= kColumns && reinterpret_cast<std::uintptr_t>(to) % (kColumns * to_bytes) == 0) {
      store_columns(to, args.grad_inputs_dtype, 0, sum);
    } else {
#pragma unroll
      for (int i = 0; i < kColumns; ++i) {
        if (i < columns) store_as(to, args.grad_inputs_dtype, i, sum[i]);
      }
    }
  }
}

template <DType kWeights>
FASTNCE_KERNEL(kThreads, kBlocks)
finish_examples_kernel(FASTNCE_ARGUMENTS FinishBlocks blocks) {
  if (block_x() < blocks.loss_blocks) {
    finish_losses(blocks.args, block_x());
  } else {
    finish_inputs<kWeights>(blocks.args, blocks.row_bits, block_x() - blocks.loss_blocks);
  }
}

FASTNCE_KERNEL(kThreads, kBlocks) finish_samples_kernel(FASTNCE_ARGUMENTS FinishSamplesArguments args) {
  const std::int64_t s = block_x() * kThreads + thread_index();
  if (s >= args.num_sampled) return;
  constexpr int kAtOnce = 8;  // loads in flight
  float sum = args.accumulate ? args.bias_sums[s] : 0.0f;
  for (std::int64_t first = 0; first < args.bias_part_count; first += kAtOnce) {
    float part[kAtOnce];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const bool exists = first + k < args.bias_part_count;
      part[k] = exists ? args.bias_parts[row_offset(first + k, args.bias_pitch) + s] : 0.0f;
    }
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) sum += part[k];
  }
  args.bias_sums[s] = sum;
}

}  // namespace

void queue_finish_examples(const FinishExamplesArguments& args, const Stream& stream) {
  const auto threads_per_row =
      std::bit_ceil(static_cast<std::uint64_t>(std::clamp<std::int64_t>(ceiling(args.dim, 4), 1, kThreads)));
  const int row_bits = std::countr_zero(threads_per_row);
  const std::int64_t loss_blocks = args.loss != nullptr ? ceiling(args.examples, kWarps * kExamplesPerWarp) : 0;
  const std::int64_t input_blocks = args.grad_inputs != nullptr ? ceiling(args.examples, kThreads >> row_bits) : 0;
  with_type(args.weights.dtype, [&]<DType kWeights> {
    launch(finish_examples_kernel<kWeights>, {.x = loss_blocks + input_blocks}, kThreads, 0, stream,
           FinishBlocks{args, loss_blocks, row_bits});
  });
}

void queue_finish_samples(const FinishSamplesArguments& args, const Stream& stream) {
  launch(finish_samples_kernel, {.x = ceiling(args.num_sampled, kThreads)}, kThreads, 0, stream, args);
}

}  // namespace fastnce::cuda
