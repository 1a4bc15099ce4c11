// One tile of X W^T in registers, and what every loss does with it. The logits never leave the multiprocessor: an
// epilogue turns them into sums per example and into G, of which this writes the parts.
#pragma once

#include "cuda/loss/logits.h"

namespace fastnce::cuda {

// Shared memory after the product. Epilogues add their own.
struct LogitsShared {
  // 8 elements of padding: rows that follow each other start 4 banks further on.
  static constexpr int kPitch = kSampleColumns + 8;
  std::uint16_t grad[kTileRows * kPitch];  // of one part of G
  float offset[kSampleColumns];            // bias - log Q
};

template <TilePlan kPlan, DType kOperands>
class LogitsTile {
 public:
  using Product = TileProduct<Contiguous::kReduced, Contiguous::kReduced, kPlan, kOperands>;
  static_assert(Product::kThreads >= kTileRows && kTileRows == kSampleColumns);

 protected:
  FASTNCE_DEVICE explicit LogitsTile(const LogitsArguments& args) : args_(args) {}

  FASTNCE_DEVICE static std::int64_t first_row() { return block_y() * kTileRows; }
  FASTNCE_DEVICE static std::int64_t first_column() { return block_x() * kSampleColumns; }
  // Within the tile. 32 bits: an address per row and column would not fit the registers.
  FASTNCE_DEVICE static int row(int i, int second) { return Product::row() + 16 * i + 8 * second; }
  FASTNCE_DEVICE static int column(int j, int odd) { return Product::column() + 8 * j + odd; }

  // Over the four lanes that hold a row, or the eight that hold a column.
  FASTNCE_DEVICE static float over_row(float sum) {
    sum += shuffle_xor(sum, 1);
    return sum + shuffle_xor(sum, 2);
  }
  FASTNCE_DEVICE static float largest_of_row(float value) {
    value = fmaxf(value, shuffle_xor(value, 1));
    return fmaxf(value, shuffle_xor(value, 2));
  }
  FASTNCE_DEVICE static float over_column(float sum) {
    sum += shuffle_xor(sum, 4);
    sum += shuffle_xor(sum, 8);
    return sum + shuffle_xor(sum, 16);
  }

  // Leaves the products of this thread's rows and columns in product_, and marks those that do not count.
  FASTNCE_DEVICE void multiply() {
    product_.multiply(args_.x, args_.w, first_row(), first_column(), 0, static_cast<int>(args_.slices));
    leave_padding_out();
    if (args_.labels != nullptr) {
      find_hits();
    } else if (args_.removed != nullptr) {
      take_removed();
    }
  }

  // Whether an example of the tile has a true class.
  FASTNCE_DEVICE bool takes_part(int row) const {
    return row < rows() && (args_.takes_part == nullptr || args_.takes_part[first_row() + row]);
  }
  // Whether an element of product_ is a logit of the loss: no padding and no accidental hit.
  FASTNCE_DEVICE bool counts(int i, int j, int second, int odd) const {
    return (left_out_[i] & bit(j, second, odd)) == 0;
  }
  FASTNCE_DEVICE float offset_of(int column) const {
    return column < columns() ? args_.offset[first_column() + column] : 0.0f;
  }

  // Writes product_, which holds G by now.
  FASTNCE_DEVICE void write_grad(LogitsShared& shared) {
    for (int part = 0; part < kPlan.order; ++part) write_grad_part(part, shared);
  }

  const LogitsArguments& args_;
  Product product_;

 private:
  // Of the tile, those that are not padding. Computed where they are needed: the product leaves no register for them.
  FASTNCE_DEVICE int rows() const { return left(args_.examples - first_row()); }
  FASTNCE_DEVICE int columns() const { return left(args_.num_sampled - first_column()); }
  FASTNCE_DEVICE static int left(std::int64_t count) { return static_cast<int>(count < kTileRows ? count : kTileRows); }
  FASTNCE_DEVICE static constexpr std::uint32_t bit(int j, int second, int odd) {
    static_assert(4 * Product::kColumnTiles <= 32);
    return 1u << (4 * j + 2 * second + odd);
  }

  FASTNCE_DEVICE void leave_padding_out() {
    std::uint32_t beyond = 0;
#pragma unroll
    for (int j = 0; j < Product::kColumnTiles; ++j) {
#pragma unroll
      for (int odd = 0; odd < 2; ++odd) {
        if (column(j, odd) >= columns()) beyond |= bit(j, 0, odd) | bit(j, 1, odd);
      }
    }
#pragma unroll
    for (int i = 0; i < Product::kRowTiles; ++i) {
      left_out_[i] = beyond;
#pragma unroll
      for (int second = 0; second < 2; ++second) {
        if (!takes_part(row(i, second))) left_out_[i] |= 0x33333333u << 2 * second;
      }
    }
  }

  // As bits: a loop that changed the sums themselves would cost registers for two copies of them.
  FASTNCE_DEVICE void find_hits() {
    const std::int64_t* const labels = args_.labels + row_offset(first_row(), args_.num_true);
    const std::int64_t* const sampled = args_.sampled + first_column();
    const int num_true = static_cast<int>(args_.num_true);
#pragma unroll
    for (int i = 0; i < Product::kRowTiles; ++i) {
#pragma unroll
      for (int second = 0; second < 2; ++second) {
        if (row(i, second) >= rows()) continue;
        for (int t = 0; t < num_true; ++t) {
          std::int64_t label = labels[row(i, second) * num_true + t];
          if (is_padding(args_.padding, label)) label = kNoClass;  // no branch: that would cost registers
#pragma unroll
          for (int j = 0; j < Product::kColumnTiles; ++j) {
            forget_loads();
#pragma unroll
            for (int odd = 0; odd < 2; ++odd) {
              if (column(j, odd) < columns() && sampled[column(j, odd)] == label) left_out_[i] |= bit(j, second, odd);
            }
          }
        }
      }
    }
  }

  // A warp's columns are one word of each row, in which a thread has two bits of every eight.
  FASTNCE_DEVICE void take_removed() {
    static_assert(8 * Product::kColumnTiles == 32);
    const std::uint32_t* const words =
        args_.removed + row_offset(first_row(), args_.removed_pitch) + first_column() / 32 + Product::warp_column();
#pragma unroll
    for (int i = 0; i < Product::kRowTiles; ++i) {
#pragma unroll
      for (int second = 0; second < 2; ++second) {
        const std::uint32_t word = words[row_offset(row(i, second), args_.removed_pitch)] >> thread_index() % 4 * 2;
#pragma unroll
        for (int j = 0; j < Product::kColumnTiles; ++j) left_out_[i] |= (word >> 8 * j & 3) << (4 * j + 2 * second);
      }
    }
  }

  // Rounds the remainder of G to one more part, subtracts it, and writes it by whole rows: 16 threads of 16 bytes each.
  FASTNCE_DEVICE void write_grad_part(int part, LogitsShared& shared) {
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
          const int at = row(i, second) * LogitsShared::kPitch + column(j, 0);
          *reinterpret_cast<std::uint32_t*>(shared.grad + at) = pair;
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
      copy_16_bytes(to + row_offset(r, args_.grad.pitch) + chunk * 8,
                    shared.grad + r * LogitsShared::kPitch + chunk * 8);
    }
    sync_block();
  }

  std::uint32_t left_out_[Product::kRowTiles];  // a bit for each of the thread's elements
};

template <class Tile>
FASTNCE_KERNEL(Tile::Product::kThreads, Tile::Product::kBlocks)
logits_kernel(FASTNCE_ARGUMENTS LogitsArguments args) {
  Tile(args).run();
}

// With the epilogue of a loss: Tile<parts of operands, order, their type> derives from LogitsTile.
template <template <int, int, DType> class Tile>
void queue_tiles(const LogitsArguments& args, const Geometry& g, Parts parts, const Stream& stream) {
  const auto queue = [&]<int kOperandParts, int kOrder, DType kOperands = DType::kBFloat16> {
    using Of = Tile<kOperandParts, kOrder, kOperands>;
    launch(logits_kernel<Of>, {.x = g.sample_tiles(), .y = g.chunk_tiles()}, Of::Product::kThreads,
           Of::Product::kSharedBytes, stream, args);
  };
  if (parts.float16) return queue.template operator()<1, 1, DType::kFloat16>();
  if (parts.order == 1) return queue.template operator()<1, 1>();
  if (parts.order == 2) {
    return parts.operands == 1 ? queue.template operator()<1, 2>() : queue.template operator()<2, 2>();
  }
  parts.operands == 1 ? queue.template operator()<1, 3>() : queue.template operator()<3, 3>();
}

}  // namespace fastnce::cuda
