// G = scale * exp(v - maximum) needs the normaliser over all tiles, so that a pass over the exponentials follows the
// product. It moves 4 bytes per element and part of G, in the L2 cache, which holds a chunk's G. The logits' product
// again would take 2 D operations per element and product of parts: at order 1 on an H100 (figures in tile_product.cuh)
// 0.7 ps for D = 128, as long as 4 bytes take, and more for wider tables and higher orders. Nor can the products of the
// gradients apply the scales as they load G: those differ along the k of both, and the parts of a number, of 8 bits
// each, can be multiplied exactly by powers of two alone.
#include "cuda/loss/softmax.h"

#include <bit>
#include <limits>

#include "cuda/gemm/elements.cuh"
#include "math/loss/softmax.h"

namespace fastnce::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kBlocks = 3;  // at least, of a multiprocessor

// Four threads of a warp share an example's tiles and true classes: eight examples of a tile are 32 bytes, the least
// that memory gives.
constexpr int kExamplesPerWarp = 8;
constexpr int kThreadsPerExample = kWarp / kExamplesPerWarp;

template <class T>
FASTNCE_DEVICE T sum_of_example(T value) {
  for (int distance = kWarp / 2; distance >= kExamplesPerWarp; distance /= 2) value += shuffle_xor(value, distance);
  return value;
}
FASTNCE_DEVICE float largest_of_example(float value) {
  for (int distance = kWarp / 2; distance >= kExamplesPerWarp; distance /= 2) {
    value = fmaxf(value, shuffle_xor(value, distance));
  }
  return value;
}

// Calls use(maximum, sum, at) for this thread's share of the tiles, several loads ahead; `at` is where `scales` has
// them.
template <class Use>
FASTNCE_DEVICE void for_each_tile(const NormaliseArguments& args, std::int64_t tiles, std::int64_t example, int share,
                                  const Use& use) {
  constexpr int kAtOnce = 8;
  for (std::int64_t first = share; first < tiles; first += kAtOnce * kThreadsPerExample) {
    float maximum[kAtOnce], sum[kAtOnce];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const std::int64_t tile = first + k * kThreadsPerExample;
      const std::int64_t at = row_offset(tile, args.pitch) + example;
      maximum[k] = tile < tiles ? args.maxima[at] : 0.0f;
      sum[k] = tile < tiles ? args.sums[at] : 0.0f;
    }
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const std::int64_t tile = first + k * kThreadsPerExample;
      if (tile < tiles) use(maximum[k], sum[k], row_offset(tile, args.pitch) + example);
    }
  }
}

// A loss in parts has a kernel of its own, of 10 % more instructions, so that the others do not pay for it.
template <bool kInParts>
FASTNCE_KERNEL(kThreads, kBlocks)
normalise_kernel(FASTNCE_ARGUMENTS NormaliseArguments args) {
  const int lane = thread_index() % kWarp;
  const std::int64_t in_chunk =
      (block_x() * kWarps + thread_index() / kWarp) * kExamplesPerWarp + lane % kExamplesPerWarp;
  const int share = lane / kExamplesPerWarp;
  const bool exists = in_chunk < args.examples;  // the threads of others take part in sums alone
  const std::int64_t tiles = exists ? args.tiles : 0;
  const std::int64_t b = args.first + in_chunk;
  const std::int64_t classes = exists ? args.targets.count(b) : 0;
  const std::int64_t first_class = exists ? args.targets.begin(b) : 0;
  const std::int64_t* const ids = args.targets.ids + first_class;
  const float* const logit = args.true_logit + first_class;
  float* const gradient = args.true_grad + first_class;
  const bool has_padding = args.targets.padding.given;
  const auto is_class = [&](std::int64_t t) { return !has_padding || ids[t] != args.targets.padding.id; };

  float largest = math::kLeastLogit<float>;
  double others = -std::numeric_limits<double>::infinity();
  if (kInParts && exists && args.parts.log_sum_exp != nullptr) {
    others = args.parts.log_sum_exp[b];
    largest = fmaxf(largest, static_cast<float>(others));
  }
  double shares = 0.0;  // of a target that the true classes have together
  int count = 0;        // of true classes
  int faults = 0;       // labels without a logit
  for_each_tile(args, tiles, in_chunk, share,
                [&](float maximum, float, std::int64_t) { largest = fmaxf(largest, maximum); });
  for (std::int64_t t = share; t < classes; t += kThreadsPerExample) {
    if (!is_class(t)) continue;
    const float weight = gradient[t];
    if (weight == weight) {
      largest = fmaxf(largest, logit[t]);
      shares += static_cast<double>(weight);
      ++count;
    } else {
      ++faults;
    }
  }
  largest = largest_of_example(largest);
  shares = sum_of_example(shares);
  count = sum_of_example(count);
  faults = sum_of_example(faults);
  const bool takes_part = exists && (args.takes_part == nullptr || args.takes_part[b]);  // not read unless in parts
  bool contributes = count > 0;
  double labels = count + faults;
  if (kInParts && args.parts.label_count != nullptr) {  // of all parts
    contributes = takes_part;
    labels = contributes ? static_cast<double>(args.parts.label_count[b]) : 0.0;
    shares = contributes && args.parts.label_weight != nullptr ? args.parts.label_weight[b] : labels;
  }
  const double q = args.mean && contributes ? 1.0 / labels : 1.0;  // of a label of weight 1

  math::SoftmaxSums sums{};
  for_each_tile(args, tiles, in_chunk, share, [&](float maximum, float sum, std::int64_t) {
    sums.of_samples += static_cast<double>(sum * math::exp_below(maximum, largest));
  });
  const auto has_logit = [&](std::int64_t t) { return is_class(t) && gradient[t] == gradient[t]; };
  for (std::int64_t t = share; t < classes; t += kThreadsPerExample) {
    if (has_logit(t)) sums.of_true += static_cast<double>(math::exp_below(logit[t], largest));
  }
  sums = {sum_of_example(sums.of_true), sum_of_example(sums.of_samples)};
  if (kInParts) sums.of_samples += math::exp_of_others(others, largest);

  const auto is_broken = [&] { return faults > 0 || args.targets.lists.is_broken(b) || args.exclude.is_broken(b); };
  if (kInParts && args.log_sum_exp != nullptr && exists && share == 0) {
    const double logarithm = takes_part ? static_cast<double>(largest) + log(sums.total()) : 0.0;
    args.log_sum_exp[b] = is_broken() ? __builtin_nan("") : logarithm;
  }
  if (args.loss != nullptr) {
    const double log_total = contributes ? log(sums.total()) : 0.0;
    double loss = 0.0;
    for (std::int64_t t = share; t < classes; t += kThreadsPerExample) {
      if (!has_logit(t)) continue;
      const double of_label = static_cast<double>(largest) - static_cast<double>(logit[t]) + log_total;
      loss += static_cast<double>(gradient[t]) * of_label;
    }
    loss = sum_of_example(loss) * q;
    if (exists && share == 0) args.loss[b] = is_broken() ? __builtin_nanf("") : static_cast<float>(loss);
  }
  if (!args.gradients) return;
  const double upstream = contributes ? static_cast<double>(args.grad_loss.of(b)) : 0.0;
  const double factor = contributes ? q * upstream / sums.total() : 0.0;
  const auto of_samples = static_cast<float>(shares * factor);
  for_each_tile(args, tiles, in_chunk, share, [&](float maximum, float, std::int64_t at) {
    args.scales[at] = contributes ? of_samples * math::exp_below(maximum, largest) : 0.0f;
  });
  for (std::int64_t t = share; t < classes; t += kThreadsPerExample) {
    const double own = static_cast<double>(math::exp_below(logit[t], largest));
    const auto weight = static_cast<double>(gradient[t]);
    gradient[t] = has_logit(t) ? static_cast<float>(sums.true_slope(own, weight, shares) * factor) : 0.0f;
  }
}

constexpr int kColumns = 8;  // of a thread: 16 bytes of a part
constexpr int kThreadsPerRow = kSampleColumns / kColumns;
constexpr int kRowsPerPass = kThreads / kThreadsPerRow;

// Elements of G in parts, as they lie in memory.
template <int kOrder>
struct GradParts {
  Words4 part[kOrder];

  FASTNCE_DEVICE void load(const OperandPlanes& planes, std::int64_t at) {
#pragma unroll
    for (int p = 0; p < kOrder; ++p) part[p] = load_16_bytes(planes.data + row_offset(p, planes.plane) + at);
  }
  FASTNCE_DEVICE float operator[](int i) const {
    float sum = 0.0f;
#pragma unroll
    for (int p = kOrder - 1; p >= 0; --p) {
      sum += from_bfloat16(static_cast<std::uint16_t>(part[p].word[i / 2] >> 16 * (i % 2)));
    }
    return sum;
  }
};

// A block per tile of G.
template <int kOrder>
FASTNCE_KERNEL(kThreads, kBlocks)
scale_kernel(FASTNCE_ARGUMENTS ScaleArguments args) {
  constexpr int kAtOnce = kOrder == 3 ? 2 : 4;  // rows in flight, as many as registers allow
  auto* const of_warps = reinterpret_cast<float*>(shared_memory());
  const std::int64_t first_row = block_y() * kTileRows;
  const std::int64_t column = block_x() * kSampleColumns + thread_index() % kThreadsPerRow * kColumns;
  float column_sum[kColumns] = {};
#pragma unroll 1
  for (int r = thread_index() / kThreadsPerRow; r < kTileRows; r += kAtOnce * kRowsPerPass) {
    GradParts<kOrder> exponential[kAtOnce];
    float scale[kAtOnce];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const std::int64_t row = first_row + r + k * kRowsPerPass;
      exponential[k].load(args.grad, row_offset(row, args.grad.pitch) + column);
      scale[k] = row < args.examples ? args.scales[row_offset(block_x(), args.scale_pitch) + row] : 0.0f;
    }
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      Elements<DType::kFloat32, kColumns> gradient;
#pragma unroll
      for (int i = 0; i < kColumns; ++i) {
        const float e = exponential[k][i];
        const float g = e != 0.0f ? e * scale[k] : 0.0f;  // hits and padding, even if the scale is not finite
        gradient.word[i] = std::bit_cast<std::uint32_t>(g);
        column_sum[i] += g;
      }
      write_operand(gradient, row_offset(first_row + r + k * kRowsPerPass, args.grad.pitch) + column, args.grad);
    }
  }
#pragma unroll
  for (int i = 0; i < kColumns; ++i) {
    const float sum = column_sum[i] + shuffle_xor(column_sum[i], kThreadsPerRow);
    const int warp = thread_index() / kWarp;
    if (thread_index() % kWarp < kThreadsPerRow) {
      of_warps[warp * kSampleColumns + thread_index() % kThreadsPerRow * kColumns + i] = sum;
    }
  }
  sync_block();
  if (thread_index() >= kSampleColumns) return;
  float sum = 0.0f;
  for (int warp = 0; warp < kWarps; ++warp) sum += of_warps[warp * kSampleColumns + thread_index()];
  args.bias_parts[row_offset(block_y(), args.bias_pitch) + block_x() * kSampleColumns + thread_index()] = sum;
}

template <int kOrder>
void queue_scale_of(const ScaleArguments& args, const Geometry& g, const Stream& stream) {
  launch(scale_kernel<kOrder>, {.x = g.sample_tiles(), .y = g.chunk_tiles()}, kThreads,
         kWarps * kSampleColumns * static_cast<int>(sizeof(float)), stream, args);
}

}  // namespace

void queue_normalise(const NormaliseArguments& args, const Stream& stream) {
  launch(args.in_parts() ? normalise_kernel<true> : normalise_kernel<false>,
         {.x = ceiling(args.examples, kWarps * kExamplesPerWarp)}, kThreads, 0, stream, args);
}

void queue_scale(const ScaleArguments& args, const Geometry& g, const Stream& stream) {
  if (args.grad.parts == 1) return queue_scale_of<1>(args, g, stream);
  args.grad.parts == 2 ? queue_scale_of<2>(args, g, stream) : queue_scale_of<3>(args, g, stream);
}

}  // namespace fastnce::cuda
