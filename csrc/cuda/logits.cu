// The logits never leave the multiprocessor: the epilogue turns each tile of X W^T into losses and G in registers.
#include "cuda/logits.h"

#include "math/loss/logistic.h"

namespace fastnce::cuda {

namespace {

// softplus(logit) = loss + log(1 + excess), sigmoid(logit) = slope. The factors 1 + excess of several logits multiply
// before one logarithm.
struct LossAndSlope {
  float loss;
  float excess;  // 0 to 1
  float slope;
};

// Where operands are rounded to 8 bits, the special-function units are accurate enough: with e = 2^(-|x| log2 e), that
// and the reciprocal of 1 + e stand for some 30 other instructions.
template <int kOrder>
FASTNCE_DEVICE LossAndSlope loss_and_slope(float logit) {
  if constexpr (kOrder > 1) {
    const auto logistic = math::logistic<float>(logit);
    return {logistic.softplus, 0.0f, logistic.sigmoid};
  } else {
    constexpr float kLog2E = 0x1.715476p0f;
    const float magnitude = logit < 0.0f ? logit : -logit;
    const float e = approximate_exp2(magnitude * kLog2E);
    const float inverse = approximate_reciprocal(1.0f + e);
    return {logit < 0.0f ? 0.0f : logit, e, logit < 0.0f ? e * inverse : inverse};
  }
}

// log(1 + excess), also where 1 + excess would round to 1: losses of unlikely classes are small, but there are many.
template <int kOrder>
FASTNCE_DEVICE float log_of_factors(float excess) {
  constexpr float kLn2 = 0x1.62e43p-1f;
  constexpr float kSmall = 0x1p-6f;
  if constexpr (kOrder > 1) return 0.0f;
  const float series = excess * (1.0f - excess * (0.5f - excess * (0x1.555556p-2f - excess * 0.25f)));
  return excess < kSmall ? series : kLn2 * approximate_log2(1.0f + excess);
}

// Shared memory after the product: a tile of one part of G, and the sums of warps that share rows or columns.
struct Epilogue {
  // 8 elements of padding: rows that follow each other start 4 banks further on.
  static constexpr int kPitch = kSampleColumns + 8;
  std::uint16_t grad[kTileRows * kPitch];
  float factor[kTileRows];              // of the upstream gradient
  float offset[kSampleColumns];         // bias - log Q
  float row_sum[4][kTileRows];          // by column of warps
  float column_sum[2][kSampleColumns];  // by row of warps
};

template <int kOperandParts, int kOrder, DType kOperands>
class LogitsTile {
 public:
  using Product =
      TileProduct<Contiguous::kReduced, Contiguous::kReduced, logits_plan({kOrder, kOperandParts}), kOperands>;
  static_assert(Product::kSharedBytes >= static_cast<int>(sizeof(Epilogue)));
  static_assert(Product::kThreads >= kTileRows && kTileRows == kSampleColumns);

  FASTNCE_DEVICE explicit LogitsTile(const LogitsArguments& args)
      : args_(args),
        shared_(*reinterpret_cast<Epilogue*>(shared_memory())),
        rows_(left(args.examples - first_row())),
        columns_(left(args.num_sampled - first_column())) {}

  FASTNCE_DEVICE void run() {
    product_.multiply(args_.x, args_.w, first_row(), first_column(), 0, static_cast<int>(args_.slices));
    if (args_.labels != nullptr) find_hits();
    apply_logistic();
    if (args_.grad.data != nullptr) {
      for (int part = 0; part < kOrder; ++part) write_grad_part(part);
    }
  }

 private:
  FASTNCE_DEVICE static std::int64_t first_row() { return block_y() * kTileRows; }
  FASTNCE_DEVICE static std::int64_t first_column() { return block_x() * kSampleColumns; }
  FASTNCE_DEVICE static int left(std::int64_t count) { return static_cast<int>(count < kTileRows ? count : kTileRows); }
  // Within the tile. 32 bits: an address per row and column would not fit the registers.
  FASTNCE_DEVICE static int row(int i, int second) { return Product::row() + 16 * i + 8 * second; }
  FASTNCE_DEVICE static int column(int j, int odd) { return Product::column() + 8 * j + odd; }
  FASTNCE_DEVICE static std::uint32_t bit(int j, int second, int odd) {
    static_assert(4 * Product::kColumnTiles <= 32);
    return 1u << (4 * j + 2 * second + odd);
  }
  // Of thread-local sums: over the four lanes that hold a row, or the eight that hold a column.
  FASTNCE_DEVICE static float over_row(float sum) {
    sum += shuffle_xor(sum, 1);
    return sum + shuffle_xor(sum, 2);
  }
  FASTNCE_DEVICE static float over_column(float sum) {
    sum += shuffle_xor(sum, 4);
    sum += shuffle_xor(sum, 8);
    return sum + shuffle_xor(sum, 16);
  }

  // Marks accidental hits. As bits: a loop that changed the sums themselves would cost registers for two copies of
  // them.
  FASTNCE_DEVICE void find_hits() {
    const std::int64_t* const labels = args_.labels + row_offset(first_row(), args_.num_true);
    const std::int64_t* const sampled = args_.sampled + first_column();
    const int num_true = static_cast<int>(args_.num_true);
#pragma unroll
    for (int i = 0; i < Product::kRowTiles; ++i) {
#pragma unroll
      for (int second = 0; second < 2; ++second) {
        if (row(i, second) >= rows_) continue;
        for (int t = 0; t < num_true; ++t) {
          const std::int64_t label = labels[row(i, second) * num_true + t];
#pragma unroll
          for (int j = 0; j < Product::kColumnTiles; ++j) {
            forget_loads();
#pragma unroll
            for (int odd = 0; odd < 2; ++odd) {
              if (column(j, odd) < columns_ && sampled[column(j, odd)] == label) hits_[i] |= bit(j, second, odd);
            }
          }
        }
      }
    }
  }

  // Overwrites the products with G, and writes the tile's sums.
  FASTNCE_DEVICE void apply_logistic() {
    const int at = thread_index();
    if (at < kTileRows) {
      shared_.factor[at] = at < rows_ && args_.grad_loss != nullptr ? args_.grad_loss[first_row() + at] : 1.0f;
      shared_.offset[at] = at < columns_ ? args_.offset[first_column() + at] : 0.0f;
    }
    sync_block();
    float row_sum[Product::kRowTiles][2] = {};
    float row_excess[Product::kRowTiles][2] = {};  // at most 2^8 - 1 in the end
#pragma unroll
    for (int j = 0; j < Product::kColumnTiles; ++j) {
#pragma unroll
      for (int odd = 0; odd < 2; ++odd) {
        forget_loads();  // one column at a time, because registers do not suffice for more
        const bool sample = column(j, odd) < columns_;
        const float offset = shared_.offset[column(j, odd)];
        float column_sum = 0.0f;
#pragma unroll
        for (int i = 0; i < Product::kRowTiles; ++i) {
#pragma unroll
          for (int second = 0; second < 2; ++second) {
            float& element = product_.sum[i][j][2 * second + odd];
            const LossAndSlope logistic = loss_and_slope<kOrder>(element + offset);
            // Padding and hits are 0, even if their product or the factor is not finite.
            const bool hit = (hits_[i] & bit(j, second, odd)) != 0;
            const bool counts = sample && row(i, second) < rows_ && !hit;
            row_sum[i][second] += counts ? logistic.loss : 0.0f;
            const float excess = counts ? logistic.excess : 0.0f;
            row_excess[i][second] += row_excess[i][second] * excess + excess;
            element = counts ? logistic.slope * shared_.factor[row(i, second)] : 0.0f;
            column_sum += element;
          }
        }
        column_sum = over_column(column_sum);
        if (thread_index() % kWarp < 4) shared_.column_sum[Product::warp_row()][column(j, odd)] = column_sum;
      }
    }
#pragma unroll
    for (int i = 0; i < Product::kRowTiles; ++i) {
#pragma unroll
      for (int second = 0; second < 2; ++second) {
        const float sum = over_row(row_sum[i][second] + log_of_factors<kOrder>(row_excess[i][second]));
        if (thread_index() % 4 == 0) {
          shared_.row_sum[Product::warp_column()][row(i, second)] = sum;
        }
      }
    }
    sync_block();
    if (at >= kTileRows) return;
    if (args_.loss_parts != nullptr) {
      float sum = 0.0f;
      for (int warp = 0; warp < Product::kWarpsAcross; ++warp) sum += shared_.row_sum[warp][at];
      args_.loss_parts[row_offset(block_x(), args_.loss_pitch) + first_row() + at] = sum;
    }
    if (args_.grad.data != nullptr) {
      args_.bias_parts[row_offset(block_y(), args_.bias_pitch) + first_column() + at] =
          shared_.column_sum[0][at] + shared_.column_sum[1][at];
    }
  }

  // Rounds the remainder of G to one more part, subtracts it, and writes it by whole rows: 16 threads of 16 bytes each.
  FASTNCE_DEVICE void write_grad_part(int part) {
#pragma unroll
    for (int i = 0; i < Product::kRowTiles; ++i) {
#pragma unroll
      for (int j = 0; j < Product::kColumnTiles; ++j) {
#pragma unroll
        for (int second = 0; second < 2; ++second) {
          float& low = product_.sum[i][j][2 * second];
          float& high = product_.sum[i][j][2 * second + 1];
          const std::uint32_t pair = to_bfloat16_pair(low, high);
          low -= from_bfloat16(static_cast<std::uint16_t>(pair));
          high -= from_bfloat16(static_cast<std::uint16_t>(pair >> 16));
          const int at = row(i, second) * Epilogue::kPitch + column(j, 0);
          *reinterpret_cast<std::uint32_t*>(shared_.grad + at) = pair;
        }
      }
    }
    sync_block();
    constexpr int kChunks = kSampleColumns / 8;
    constexpr int kRowsPerPass = Product::kThreads / kChunks;
    const int chunk = thread_index() % kChunks;
    std::uint16_t* const to = args_.grad.data + row_offset(part, args_.grad.plane) +
                              row_offset(first_row(), args_.grad.pitch) + first_column();
    for (int r = thread_index() / kChunks; r < kTileRows; r += kRowsPerPass) {
      copy_16_bytes(to + row_offset(r, args_.grad.pitch) + chunk * 8, shared_.grad + r * Epilogue::kPitch + chunk * 8);
    }
    sync_block();
  }

  const LogitsArguments& args_;
  Epilogue& shared_;
  const int rows_, columns_;  // of the tile that are not padding
  Product product_;
  std::uint32_t hits_[Product::kRowTiles] = {};  // a bit for each of the thread's elements
};

template <class Tile>
FASTNCE_KERNEL(Tile::Product::kThreads, Tile::Product::kBlocks)
logits_kernel(FASTNCE_ARGUMENTS LogitsArguments args) {
  Tile(args).run();
}

template <int kOperandParts, int kOrder, DType kOperands = DType::kBFloat16>
void queue(const LogitsArguments& args, const Geometry& g, const Stream& stream) {
  using Tile = LogitsTile<kOperandParts, kOrder, kOperands>;
  launch(logits_kernel<Tile>, {.x = g.sample_tiles(), .y = g.chunk_tiles()}, Tile::Product::kThreads,
         Tile::Product::kSharedBytes, stream, args);
}

}  // namespace

void queue_logits(const LogitsArguments& args, const Geometry& g, Parts parts, const Stream& stream) {
  if (parts.float16) return queue<1, 1, DType::kFloat16>(args, g, stream);
  if (parts.order == 1) return queue<1, 1>(args, g, stream);
  if (parts.order == 2) return parts.operands == 1 ? queue<1, 2>(args, g, stream) : queue<2, 2>(args, g, stream);
  parts.operands == 1 ? queue<1, 3>(args, g, stream) : queue<3, 3>(args, g, stream);
}

}  // namespace fastnce::cuda
