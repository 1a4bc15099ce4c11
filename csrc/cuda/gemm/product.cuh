// The kernel behind product.h.
#pragma once

#include <bit>

#include "cuda/gemm/product.h"

namespace fastnce::cuda {

template <class Product, int kColumns>
FASTNCE_KERNEL(Product::kThreads, Product::kBlocks)
product_kernel(FASTNCE_ARGUMENTS ProductArguments args) {
  const std::int64_t first_row = block_y() * kTileRows;
  const std::int64_t first_column = block_x() % (args.pitch / kColumns) * kColumns;
  const std::int64_t split = block_x() / (args.pitch / kColumns);
  const std::int64_t splits = grid_x() / (args.pitch / kColumns);
  const int first_slice = static_cast<int>(args.slices * split / splits);
  const int last_slice = static_cast<int>(args.slices * (split + 1) / splits);
  Product product;
  product.multiply(args.a, args.b, first_row, first_column, first_slice, last_slice);
  float* const out = args.out + row_offset(split, args.part) + first_column + Product::column();
#pragma unroll
  for (int i = 0; i < Product::kRowTiles; ++i) {
    float* row[2];
    Words2 before[2][Product::kColumnTiles] = {};  // all under way before the first is added
#pragma unroll
    for (int second = 0; second < 2; ++second) {
      row[second] = out + row_offset(first_row + Product::row() + 16 * i + 8 * second, args.pitch);
      if (!args.accumulate) continue;
#pragma unroll
      for (int j = 0; j < Product::kColumnTiles; ++j) before[second][j] = load_8_bytes(row[second] + 8 * j);
    }
#pragma unroll
    for (int second = 0; second < 2; ++second) {
#pragma unroll
      for (int j = 0; j < Product::kColumnTiles; ++j) {
        Words2 pair;
#pragma unroll
        for (int odd = 0; odd < 2; ++odd) {
          const float sum = std::bit_cast<float>(before[second][j].word[odd]) + product.sum[i][j][2 * second + odd];
          pair.word[odd] = std::bit_cast<std::uint32_t>(sum);
        }
        store_8_bytes(row[second] + 8 * j, pair);
      }
    }
  }
}

template <Contiguous kLayoutA, int kColumns>
void queue_product_of(const ProductArguments& args, std::int64_t row_tiles, std::int64_t splits, Parts parts,
                      const Stream& stream) {
  const auto queue = [&]<int kOrder, int kOperands> {
    using Product = TileProduct<kLayoutA, Contiguous::kOuter, product_plan(kColumns, {kOrder, kOperands})>;
    launch(product_kernel<Product, kColumns>, {.x = args.pitch / kColumns * splits, .y = row_tiles}, Product::kThreads,
           Product::kSharedBytes, stream, args);
  };
  if (parts.order == 1) return queue.template operator()<1, 1>();
  if (parts.order == 2) {
    return parts.operands == 1 ? queue.template operator()<2, 1>() : queue.template operator()<2, 2>();
  }
  parts.operands == 1 ? queue.template operator()<3, 1>() : queue.template operator()<3, 3>();
}

template <Contiguous kLayoutA>
void queue_product(const ProductArguments& args, const Geometry& g, std::int64_t row_tiles, std::int64_t splits,
                   Parts parts, const Stream& stream) {
  g.dim_columns == 128 ? queue_product_of<kLayoutA, 128>(args, row_tiles, splits, parts, stream)
                       : queue_product_of<kLayoutA, 64>(args, row_tiles, splits, parts, stream);
}

}  // namespace fastnce::cuda
