// The logistic loss as an epilogue of the logits' product: losses and G in registers.
#include "cuda/loss/logits_tile.cuh"
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

struct LogisticShared : LogitsShared {
  float weight[kTileRows];              // of an example's loss
  float factor[kTileRows];              // of its G: the same, times the upstream gradient
  float row_sum[4][kTileRows];          // by column of warps
  float column_sum[2][kSampleColumns];  // by row of warps
};

template <int kOperandParts, int kOrder, DType kOperands>
class LogisticTile : public LogitsTile<logits_plan({kOrder, kOperandParts}), kOperands> {
  using Base = LogitsTile<logits_plan({kOrder, kOperandParts}), kOperands>;

 public:
  using typename Base::Product;
  static_assert(Product::kSharedBytes >= static_cast<int>(sizeof(LogisticShared)));

  FASTNCE_DEVICE explicit LogisticTile(const LogitsArguments& args)
      : Base(args), shared_(*reinterpret_cast<LogisticShared*>(shared_memory())) {}

  FASTNCE_DEVICE void run() {
    this->multiply();
    apply();
    if (args_.grad.data != nullptr) this->write_grad(shared_);
  }

 private:
  using Base::args_, Base::product_, Base::row, Base::column;

  // Overwrites the products with G, and writes the tile's sums.
  FASTNCE_DEVICE void apply() {
    const int at = thread_index();
    if (at < kTileRows) {
      const std::int64_t example = Base::first_row() + at;
      const bool takes_part = this->takes_part(at);
      const float weight = takes_part ? args_.negative_weight.of(example) : 0.0f;
      shared_.weight[at] = weight;
      shared_.factor[at] = takes_part ? weight * args_.grad_loss.of(example) : 0.0f;
      shared_.offset[at] = this->offset_of(at);
    }
    sync_block();
    float row_sum[Product::kRowTiles][2] = {};
    float row_excess[Product::kRowTiles][2] = {};  // at most 2^8 - 1 in the end
#pragma unroll
    for (int j = 0; j < Product::kColumnTiles; ++j) {
#pragma unroll
      for (int odd = 0; odd < 2; ++odd) {
        forget_loads();  // one column at a time, because registers do not suffice for more
        const float offset = shared_.offset[column(j, odd)];
        float column_sum = 0.0f;
#pragma unroll
        for (int i = 0; i < Product::kRowTiles; ++i) {
#pragma unroll
          for (int second = 0; second < 2; ++second) {
            float& element = product_.sum[i][j][2 * second + odd];
            const LossAndSlope logistic = loss_and_slope<kOrder>(element * args_.scale + offset);
            // What does not count is 0, even if its product or the factor is not finite.
            const bool counts = this->counts(i, j, second, odd);
            row_sum[i][second] += counts ? logistic.loss : 0.0f;
            const float excess = counts ? logistic.excess : 0.0f;
            row_excess[i][second] += row_excess[i][second] * excess + excess;
            element = counts ? logistic.slope * shared_.factor[row(i, second)] : 0.0f;
            column_sum += element;
          }
        }
        column_sum = Base::over_column(column_sum);
        if (thread_index() % kWarp < 4) shared_.column_sum[Product::warp_row()][column(j, odd)] = column_sum;
      }
    }
#pragma unroll
    for (int i = 0; i < Product::kRowTiles; ++i) {
#pragma unroll
      for (int second = 0; second < 2; ++second) {
        const float sum = Base::over_row(row_sum[i][second] + log_of_factors<kOrder>(row_excess[i][second]));
        if (thread_index() % 4 == 0) shared_.row_sum[Product::warp_column()][row(i, second)] = sum;
      }
    }
    sync_block();
    if (at >= kTileRows) return;
    if (args_.loss_parts != nullptr) {
      float sum = 0.0f;
      for (int warp = 0; warp < Product::kWarpsAcross; ++warp) sum += shared_.row_sum[warp][at];
      // 0 where all samples are hits, even if the weight is not finite.
      args_.loss_parts[row_offset(block_x(), args_.loss_pitch) + Base::first_row() + at] =
          sum != 0.0f ? sum * shared_.weight[at] : 0.0f;
    }
    if (args_.grad.data != nullptr) {
      args_.bias_parts[row_offset(block_y(), args_.bias_pitch) + Base::first_column() + at] =
          shared_.column_sum[0][at] + shared_.column_sum[1][at];
    }
  }

  LogisticShared& shared_;
};

}  // namespace

void queue_logistic_logits(const LogitsArguments& args, const Geometry& g, Parts parts, const Stream& stream) {
  queue_tiles<LogisticTile>(args, g, parts, stream);
}

}  // namespace fastnce::cuda
