#include "cuda/loss/groups.h"

#include <bit>

#include "cuda/gemm/geometry.h"
#include "cuda/loss/row_vectors.cuh"
#include "cuda/rows/columns.cuh"
#include "cuda/runtime/ids.cuh"
#include "cuda/runtime/warp.cuh"
#include "math/loss/logistic.h"
#include "math/loss/softmax.h"

namespace fastnce::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
static_assert(kGroupTile == kWarp);

FASTNCE_DEVICE int lane_index() { return thread_index() % kWarp; }

// A thread per sample.
FASTNCE_KERNEL(kThreads, 1) group_offsets_kernel(FASTNCE_ARGUMENTS GroupsArguments args) {
  const std::int64_t at = block_x() * kThreads + thread_index();
  if (at >= args.batch / args.served * args.num_sampled) return;
  const std::int64_t id = args.sampled[at];
  if (!is_valid_id(id, args.num_classes)) {
    record_fault(args.faults, IdArgument::kSampled, at, id, args.num_sampled, args.num_classes);
    args.offset[at] = __builtin_nanf("");
    return;
  }
  args.offset[at] = widened(load_bias(args.biases, id), args.biases.dtype) - args.q.log_of(args.q.load(at));
}

// x times the rows of up to 32 samples, one for each lane, four at once. Where a lane's sample does not count or is out
// of range, class 0 stands for it, whose product nobody uses; four of those are left out.
template <DType kInputs, DType kWeights>
FASTNCE_DEVICE float products(const GroupsArguments& args, std::int64_t b, std::int64_t id, bool counts) {
  constexpr int kAtOnce = 4;
  constexpr int kCount = 16 / std::min(element_bytes(kInputs), element_bytes(kWeights));
  const RowVectors<kInputs, kCount> x{args.inputs[b].data, args.dim};
  const auto vectors = static_cast<int>((args.dim + kCount - 1) / kCount);
  const std::int64_t readable = counts && is_valid_id(id, args.num_classes) ? id : -1;
  float own = 0.0f;
#pragma unroll 1
  for (int first = 0; first < kWarp; first += kAtOnce) {
    RowVectors<kWeights, kCount> w[kAtOnce];
    bool any = false;
    int whole = x.whole();
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const std::int64_t of = shuffle(readable, first + k);
      any = any || of >= 0;
      w[k] = {args.weights.row(of >= 0 ? of : 0).data, args.dim};
      whole = w[k].is_aligned() ? whole : 0;
    }
    if (!any) continue;
    float product[kAtOnce] = {};
    const auto add = [&](const Elements<kInputs, kCount>& elements, const Elements<kWeights, kCount>(&row)[kAtOnce]) {
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
#pragma unroll
        for (int i = 0; i < kCount; ++i) product[k] += elements[i] * row[k][i];
      }
    };
    Elements<kWeights, kCount> row[kAtOnce];
#pragma unroll 1
    for (int v = lane_index(); v < whole; v += kWarp) {
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) row[k] = w[k].load(v);
      add(x.load(v), row);
    }
    // Each vector by the same lane as where it can be loaded, so that sums do not depend on addresses.
#pragma unroll 1
    for (int v = whole + ((lane_index() - whole) & (kWarp - 1)); v < vectors; v += kWarp) {
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) row[k] = w[k].gather(v);
      add(x.gather(v), row);
    }
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const float sum = sum_over_warp(product[k]);
      if (lane_index() == first + k) own = sum;
    }
  }
  return own;
}

FASTNCE_DEVICE float largest_of_warp(float value) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) value = fmaxf(value, shuffle_xor(value, distance));
  return value;
}

// A warp per example and tile of samples.
template <DType kInputs, DType kWeights>
FASTNCE_KERNEL(kThreads, 2)
group_logits_kernel(FASTNCE_ARGUMENTS GroupsArguments args) {
  const std::int64_t warp = block_x() * kWarps + thread_index() / kWarp;
  const std::int64_t b = warp / args.tiles();
  const std::int64_t tile = warp - b * args.tiles();
  if (b >= args.batch) return;
  const std::int64_t s = tile * kGroupTile + lane_index();
  const bool exists = s < args.num_sampled;
  const std::int64_t at = row_offset(args.group_of(b), args.num_sampled) + s;
  const std::int64_t id = exists ? args.sampled[at] : -1;
  const bool takes_part = args.takes_part == nullptr || args.takes_part[b];
  const bool is_removed =
      args.removed != nullptr && (args.removed[row_offset(b, args.removed_pitch) + tile] >> lane_index() & 1) != 0;
  const bool counts = exists && takes_part && !is_removed;
  const float offset = counts ? args.offset[at] : 0.0f;
  const float v = products<kInputs, kWeights>(args, b, id, counts) * args.scale + offset;
  const std::int64_t part = row_offset(tile, args.batch) + b;
  float result = 0.0f;  // what does not count is 0, whatever the factors
  if (args.softmax) {
    const float largest = largest_of_warp(counts ? v : math::kLeastLogit<float>);
    if (counts) result = math::exp_below(v, largest);
    const float sum = sum_over_warp(result);
    if (lane_index() == 0) {
      args.loss_parts[part] = sum;
      args.maxima[part] = largest;
    }
  } else {
    const auto logistic = math::logistic<float>(v);
    const float weight = takes_part ? args.negative_weight.of(b) : 0.0f;
    const float loss = sum_over_warp(counts ? logistic.softplus : 0.0f);
    if (lane_index() == 0) args.loss_parts[part] = loss != 0.0f ? loss * weight : 0.0f;
    if (counts) result = logistic.sigmoid * (weight * args.grad_loss.of(b));
  }
  if (exists && args.grad != nullptr) args.grad[row_offset(b, args.num_sampled) + s] = result;
}

// A thread per example and sample.
FASTNCE_KERNEL(kThreads, 1) group_scale_kernel(FASTNCE_ARGUMENTS GroupsArguments args) {
  const std::int64_t at = block_x() * kThreads + thread_index();
  if (at >= args.batch * args.num_sampled) return;
  const std::int64_t b = at / args.num_sampled;
  const std::int64_t tile = (at - b * args.num_sampled) / kGroupTile;
  const float e = args.grad[at];
  args.grad[at] = e != 0.0f ? e * args.scales[row_offset(tile, args.batch) + b] : 0.0f;
}

struct GroupInputs {
  GroupsArguments args;
  int row_bits;  // 2^row_bits threads for a row
};

// A thread adds up four columns of a row, over the samples of its example.
template <DType kWeights>
FASTNCE_KERNEL(kThreads, 3)
group_inputs_kernel(FASTNCE_ARGUMENTS GroupInputs call) {
  const GroupsArguments& args = call.args;
  constexpr int kColumns = 4;
  constexpr int kAtOnce = 8;  // loads in flight
  using Weights = Elements<kWeights, kColumns>;
  const std::int64_t b = block_x() * (kThreads >> call.row_bits) + (thread_index() >> call.row_bits);
  if (b >= args.batch) return;
  const std::int64_t* const sampled = args.sampled + row_offset(args.group_of(b), args.num_sampled);
  const float* const grad = args.grad + row_offset(b, args.num_sampled);
  const auto samples = static_cast<int>(args.num_sampled);
  const int first_column = (thread_index() & ((1 << call.row_bits) - 1)) * kColumns;
  for (std::int64_t d = first_column; d < args.dim; d += kColumns << call.row_bits) {
    float sum[kColumns] = {};
#pragma unroll 1
    for (int first = 0; first < samples; first += kAtOnce) {
      float factor[kAtOnce];
      Weights weights[kAtOnce];
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) factor[k] = first + k < samples ? grad[first + k] : 0.0f;
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        if (factor[k] == 0.0f) continue;  // the row of a sample that is removed is not read
        const std::int64_t id = sampled[first + k];
        if (!is_valid_id(id, args.num_classes)) continue;
        const char* const from = Weights::at(args.weights.row(id).data, d);
        if (args.dim - d >= kColumns && Weights::is_aligned(from)) {
          weights[k].load(from);
        } else {
          weights[k].gather(from, args.dim - d);
        }
      }
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
#pragma unroll
        for (int i = 0; i < kColumns; ++i) sum[i] += factor[k] * weights[k][i];
      }
    }
    store_columns(args.inputs_sum + row_offset(b, args.input_pitch), DType::kFloat32, d, sum);
  }
}

}  // namespace

void queue_group_offsets(const GroupsArguments& args, const Stream& stream) {
  const std::int64_t samples = args.batch / args.served * args.num_sampled;
  launch(group_offsets_kernel, {.x = ceiling(samples, kThreads)}, kThreads, 0, stream, args);
}

void queue_group_logits(const GroupsArguments& args, const Stream& stream) {
  const Grid grid{.x = ceiling(args.batch * args.tiles(), kWarps)};
  with_type(args.inputs.dtype, [&]<DType kInputs> {
    with_type(args.weights.dtype,
              [&]<DType kWeights> { launch(group_logits_kernel<kInputs, kWeights>, grid, kThreads, 0, stream, args); });
  });
}

void queue_group_scale(const GroupsArguments& args, const Stream& stream) {
  launch(group_scale_kernel, {.x = ceiling(args.batch * args.num_sampled, kThreads)}, kThreads, 0, stream, args);
}

void queue_group_inputs(const GroupsArguments& args, const Stream& stream) {
  const auto threads_per_row =
      std::bit_ceil(static_cast<std::uint64_t>(std::clamp<std::int64_t>(ceiling(args.dim, 4), 1, kThreads)));
  const int row_bits = std::countr_zero(threads_per_row);
  with_type(args.weights.dtype, [&]<DType kWeights> {
    launch(group_inputs_kernel<kWeights>, {.x = ceiling(args.batch, kThreads >> row_bits)}, kThreads, 0, stream,
           GroupInputs{args, row_bits});
  });
}

}  // namespace fastnce::cuda
