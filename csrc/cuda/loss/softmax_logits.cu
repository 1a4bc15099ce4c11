// The first pass of the softmax loss as an epilogue of the logits' product: exponentials relative to the tile's
// maximum, and their sums per example. softmax.cu makes the loss and G of them.
#include "cuda/loss/logits_tile.cuh"
#include "math/loss/softmax.h"

namespace fastnce::cuda {

namespace {

// exp(x) for x <= 0; as accurate as what it is made of, as in logistic_logits.cu.
template <int kOrder>
FASTNCE_DEVICE float exp_of(float x) {
  if constexpr (kOrder > 1) return math::exp_below(x, 0.0f);
  constexpr float kLog2E = 0x1.715476p0f;
  return approximate_exp2(x * kLog2E);
}

struct SoftmaxShared : LogitsShared {
  float maximum[kTileRows];
  float row_max[4][kTileRows];  // by column of warps
  float row_sum[4][kTileRows];  // likewise
};

template <int kOperandParts, int kOrder, DType kOperands>
class SoftmaxTile : public LogitsTile<softmax_logits_plan({kOrder, kOperandParts}), kOperands> {
  using Base = LogitsTile<softmax_logits_plan({kOrder, kOperandParts}), kOperands>;

 public:
  using typename Base::Product;
  static_assert(Product::kSharedBytes >= static_cast<int>(sizeof(SoftmaxShared)));

  FASTNCE_DEVICE explicit SoftmaxTile(const LogitsArguments& args)
      : Base(args), shared_(*reinterpret_cast<SoftmaxShared*>(shared_memory())) {}

  FASTNCE_DEVICE void run() {
    this->multiply();
    find_maxima();
    take_exponentials();
    if (args_.grad.data != nullptr) this->write_grad(shared_);
  }

 private:
  using Base::args_, Base::product_, Base::row, Base::column;

  // Overwrites the products with logits. A NaN is no maximum: it shows in the sums.
  FASTNCE_DEVICE void find_maxima() {
    if (thread_index() < kTileRows) shared_.offset[thread_index()] = this->offset_of(thread_index());
    sync_block();
    float row_max[Product::kRowTiles][2];
#pragma unroll
    for (int i = 0; i < Product::kRowTiles; ++i) row_max[i][0] = row_max[i][1] = math::kLeastLogit<float>;
#pragma unroll
    for (int j = 0; j < Product::kColumnTiles; ++j) {
#pragma unroll
      for (int odd = 0; odd < 2; ++odd) {
        forget_loads();  // one column at a time, because registers do not suffice for more
        const float offset = shared_.offset[column(j, odd)];
#pragma unroll
        for (int i = 0; i < Product::kRowTiles; ++i) {
#pragma unroll
          for (int second = 0; second < 2; ++second) {
            float& element = product_.sum[i][j][2 * second + odd];
            element = this->counts(i, j, second, odd) ? element * args_.scale + offset : math::kLeastLogit<float>;
            row_max[i][second] = fmaxf(row_max[i][second], element);
          }
        }
      }
    }
#pragma unroll
    for (int i = 0; i < Product::kRowTiles; ++i) {
#pragma unroll
      for (int second = 0; second < 2; ++second) {
        const float largest = Base::largest_of_row(row_max[i][second]);
        if (thread_index() % 4 == 0) shared_.row_max[Product::warp_column()][row(i, second)] = largest;
      }
    }
    sync_block();
    if (thread_index() < kTileRows) {
      float largest = shared_.row_max[0][thread_index()];
#pragma unroll
      for (int warp = 1; warp < Product::kWarpsAcross; ++warp) {
        largest = fmaxf(largest, shared_.row_max[warp][thread_index()]);
      }
      shared_.maximum[thread_index()] = largest;
    }
    sync_block();
  }

  // Overwrites logits with exponentials, and writes the tile's maxima and sums.
  FASTNCE_DEVICE void take_exponentials() {
    float row_sum[Product::kRowTiles][2] = {};
#pragma unroll
    for (int j = 0; j < Product::kColumnTiles; ++j) {
#pragma unroll
      for (int odd = 0; odd < 2; ++odd) {
#pragma unroll
        for (int i = 0; i < Product::kRowTiles; ++i) {
          forget_loads();  // two elements at a time, for the same reason
#pragma unroll
          for (int second = 0; second < 2; ++second) {
            float& element = product_.sum[i][j][2 * second + odd];
            const float e = exp_of<kOrder>(element - shared_.maximum[row(i, second)]);
            // 0, too, where nothing in the row counts and the maximum is the least there is.
            element = this->counts(i, j, second, odd) ? e : 0.0f;
            row_sum[i][second] += element;
          }
        }
      }
    }
#pragma unroll
    for (int i = 0; i < Product::kRowTiles; ++i) {
#pragma unroll
      for (int second = 0; second < 2; ++second) {
        const float sum = Base::over_row(row_sum[i][second]);
        if (thread_index() % 4 == 0) shared_.row_sum[Product::warp_column()][row(i, second)] = sum;
      }
    }
    sync_block();
    const int at = thread_index();
    if (at >= kTileRows) return;
    float sum = 0.0f;
    for (int warp = 0; warp < Product::kWarpsAcross; ++warp) sum += shared_.row_sum[warp][at];
    const std::int64_t to = row_offset(block_x(), args_.loss_pitch) + Base::first_row() + at;
    args_.loss_parts[to] = sum;
    args_.maxima[to] = shared_.maximum[at];
  }

  SoftmaxShared& shared_;
};

}  // namespace

void queue_softmax_logits(const LogitsArguments& args, const Geometry& g, Parts parts, const Stream& stream) {
  queue_tiles<SoftmaxTile>(args, g, parts, stream);
}

}  // namespace fastnce::cuda
