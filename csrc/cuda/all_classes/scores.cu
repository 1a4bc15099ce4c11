#include "cuda/all_classes/scores.h"

#include <bit>

namespace fastnce::cuda {

namespace {

template <class Product>
FASTNCE_KERNEL(Product::kThreads, Product::kBlocks)
scores_kernel(FASTNCE_ARGUMENTS ScoresArguments args) {
  const std::int64_t first_column = block_x() * kSampleColumns;
  const std::int64_t first_row = args.diagonal ? first_column : block_y() * kTileRows;
  Product product;
  product.multiply(args.x, args.w, first_row, first_column, 0, static_cast<int>(args.slices));
#pragma unroll
  for (int j = 0; j < Product::kColumnTiles; ++j) {
    const std::int64_t column = first_column + Product::column() + 8 * j;
    float offset[2];
#pragma unroll
    for (int odd = 0; odd < 2; ++odd) offset[odd] = column + odd < args.classes ? args.offset[column + odd] : 0.0f;
#pragma unroll
    for (int i = 0; i < Product::kRowTiles; ++i) {
#pragma unroll
      for (int second = 0; second < 2; ++second) {
        const std::int64_t row = first_row + Product::row() + 16 * i + 8 * second;
        Words2 pair;
#pragma unroll
        for (int odd = 0; odd < 2; ++odd) {
          const float score = product.sum[i][j][2 * second + odd] + offset[odd];
          pair.word[odd] = std::bit_cast<std::uint32_t>(score);
          if (args.diagonal && row == column + odd) args.scores[row] = score;
        }
        if (!args.diagonal) store_8_bytes(args.scores + row_offset(row, args.pitch) + column, pair);
      }
    }
  }
}

}  // namespace

void queue_scores(const ScoresArguments& args, std::int64_t rows, std::int64_t columns, Parts parts,
                  const Stream& stream) {
  const Grid grid{.x = columns / kSampleColumns, .y = args.diagonal ? 1 : rows / kTileRows};
  const auto queue = [&]<int kOperandParts, int kOrder, DType kOperands = DType::kBFloat16> {
    // The plan of the softmax, whose epilogue takes as many registers: within 128 this would spill above order 1, too.
    using Product = TileProduct<Contiguous::kReduced, Contiguous::kReduced,
                                softmax_logits_plan({kOrder, kOperandParts}), kOperands>;
    launch(scores_kernel<Product>, grid, Product::kThreads, Product::kSharedBytes, stream, args);
  };
  if (parts.float16) return queue.template operator()<1, 1, DType::kFloat16>();
  if (parts.order == 1) return queue.template operator()<1, 1>();
  if (parts.operands == 1) return queue.template operator()<1, 3>();  // exact operands: above order 1 all are alike
  parts.order == 2 ? queue.template operator()<2, 2>() : queue.template operator()<3, 3>();
}

}  // namespace fastnce::cuda
