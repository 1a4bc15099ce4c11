// A tile whose GEMMs are computed from bfloat16 parts (split-inl.h). Compiled once per instruction set; the rules are
// in simd-inl.h. Include after a micro-kernel: a class, alive while its instructions may be used, with
//   multiply_square<kParts, kWrite>(a, b, depth_chunks, c)
// which stores in (or adds to) the 32 x 32 floats at c the product of 32 rows of A and 32 columns of B. It lives as
// long as one GEMM of one tile: between tiles a signal handler may run, and what it calls may configure AMX for itself.

// Packed X of some examples and W of some samples, each twice: with the inner dimension along and across its rows.
//
// While examples stream past, dW is kept transposed, [D, samples]: as the product of A = X^T and B = G it needs no
// transpose of G, which is new in every tile. Each step reads the parts of W twice and dW, which stay in the cache, and
// the parts of X and G twice, which stream. The resident arrays may take about half of the L2 cache, X an eighth. With
// fewer products per step, more examples are needed to amortise loading and storing dW.
template <int kParts, class Multiplier>
class SplitTile {
 public:
  using Element = float;

  SplitTile(const PlaneShape& plane, float* scratch) : dim_(plane.dim) {
    constexpr std::int64_t kExamples = kParts == 3 ? 64 : kParts == 2 ? 128 : 256;
    constexpr std::int64_t kPartBytes = std::int64_t{2} * kParts * static_cast<std::int64_t>(sizeof(Bf16));
    const std::int64_t padded_dim = chunks(dim_) * kDepth + kDepth;
    const auto fitting = [&](std::int64_t bytes, std::int64_t bytes_per_row) {
      return bytes / bytes_per_row / kDepth * kDepth;
    };
    examples = clamp(fitting(plane.l2_bytes / 8, padded_dim * kPartBytes), kDepth, kExamples);
    examples = clamp(plane.batch, 1, examples);
    samples = clamp(fitting(plane.l2_bytes / 2, padded_dim * (kPartBytes + 4)), 4 * kDepth, kMostTileSamples);
    samples = clamp(plane.num_sampled, 1, samples);
    logits_panel = chunks(examples) * kDepth * kDepth;
    std::int64_t used = 0;
    const auto take = [&](std::int64_t floats) {
      used += floats;
      return scratch == nullptr ? nullptr : scratch + used - floats;
    };
    // An operand's two dimensions count in chunks; a chunk by a chunk is two blocks per part.
    const auto take_operand = [&](std::int64_t rows, std::int64_t depth) {
      return reinterpret_cast<Bf16*>(take(chunks(rows) * chunks(depth) * kParts * kBlock));
    };
    const std::int64_t before_x = used;
    x_along_ = take_operand(examples, dim_);
    x_across_ = take_operand(dim_, examples);
    x_elements = used - before_x;
    w_along_ = take_operand(samples, dim_);
    w_across_ = take_operand(dim_, samples);
    g_along_ = take_operand(examples, samples);
    g_across_ = take_operand(samples, examples);
    dw_ = take(chunks(dim_) * chunks(samples) * kSquare * kSquare);
    square_ = take(kSquare * kSquare);
    logits_elements = chunks(samples) * logits_panel;
    logits = take(logits_elements);
    loss_lanes = take(examples * kLanes<float>);
    scratch_elements = used;
  }

  std::int64_t examples, samples;  // size of a whole tile
  std::int64_t scratch_elements;
  float* logits;                             // panels [samples] of rows [examples]: X W^T, then G
  std::int64_t logits_panel;                 // elements from one panel to the next
  float* loss_lanes;                         // [examples, kLanes]
  std::int64_t x_elements, logits_elements;  // of packed X and of the logits

  void enter_samples(const float* const* w_rows, std::int64_t count, Packed packed) {
    num_samples_ = count;
    if (packed != Packed::kForGradients) pack_along_rows<kParts, Operand::kB>(w_rows, count, dim_, w_along_);
    if (packed == Packed::kForLogits) return;
    pack_across_rows<kParts, Operand::kB>(w_rows, count, dim_, w_across_);
    clear_grad_weights();
  }

  // Packed X is, or will be, at `memory` (x_elements), in place of the tile's own.
  void use_examples(float* memory, std::int64_t count) {
    x_along_ = reinterpret_cast<Bf16*>(memory);
    x_across_ = x_along_ + chunks(examples) * chunks(dim_) * kParts * kBlock * 2;
    num_examples_ = count;
  }

  void enter_examples(const float* const* x_rows, std::int64_t count) {
    num_examples_ = count;
    pack_along_rows<kParts, Operand::kA>(x_rows, count, dim_, x_along_);
    pack_across_rows<kParts, Operand::kA>(x_rows, count, dim_, x_across_);
  }

  void multiply_logits() {
    const Multiplier multiplier;
    const std::int64_t depth = chunks(dim_);
    for (std::int64_t i = 0; i < chunks(num_examples_); ++i) {
      for (std::int64_t j = 0; j < chunks(num_samples_); ++j) {
        multiplier.template multiply_square<kParts, Write::kSet>(rows_of(x_along_, i, depth),
                                                                 rows_of(w_along_, j, depth), depth,
                                                                 logits + j * logits_panel + i * kSquare * kSquare);
      }
    }
  }

  void enter_grad() { pack_grad<kParts>(logits, logits_panel, num_examples_, num_samples_, g_along_, g_across_); }

  void add_grad_inputs(float* const* dx_rows) {
    const Multiplier multiplier;
    const std::int64_t depth = chunks(num_samples_);
    for (std::int64_t i = 0; i < chunks(num_examples_); ++i) {
      for (std::int64_t j = 0; j < chunks(dim_); ++j) {
        multiplier.template multiply_square<kParts, Write::kSet>(rows_of(g_along_, i, depth),
                                                                 rows_of(w_across_, j, depth), depth, square_);
        const std::int64_t rows = clamp(num_examples_ - i * kSquare, 0, kSquare);
        for (std::int64_t r = 0; r < rows; ++r) {
          add_columns(dx_rows[i * kSquare + r], j * kSquare, load(square_ + r * kSquare));
          add_columns(dx_rows[i * kSquare + r], j * kSquare + kSide, load(square_ + r * kSquare + kSide));
        }
      }
    }
  }

  // At full accuracy a tile's share is summed up by itself, and so are those of kTilesSummed tiles: six products per
  // number, or the shares of thousands of examples, each rounded to the size of the whole sum, would cost a digit.
  void add_grad_weights(float* const* dw_rows) {
    const Multiplier multiplier;
    const std::int64_t depth = chunks(num_examples_);
    for (std::int64_t i = 0; i < chunks(dim_); ++i) {
      for (std::int64_t j = 0; j < chunks(num_samples_); ++j) {
        const Bf16* const x = rows_of(x_across_, i, depth);
        const Bf16* const g = rows_of(g_across_, j, depth);
        float* const dw = dw_ + (i * chunks(num_samples_) + j) * kSquare * kSquare;
        if constexpr (kParts < 3) {
          multiplier.template multiply_square<kParts, Write::kAdd>(x, g, depth, dw);
        } else {
          multiplier.template multiply_square<kParts, Write::kSet>(x, g, depth, square_);
          for (std::int64_t at = 0; at < kSquare * kSquare; at += kLanes<float>) {
            store(dw + at, load(dw + at) + load(square_ + at));
          }
        }
      }
    }
    if constexpr (kParts == 3) {
      if (++tiles_summed_ < kTilesSummed) return;
      leave_samples(dw_rows);
      clear_grad_weights();
    }
  }

  void leave_samples(float* const* dw_rows) {
    for (std::int64_t i = 0; i < chunks(dim_) * 2; ++i) {
      for (std::int64_t j = 0; j < chunks(num_samples_) * 2; ++j) {
        const float* from =
            dw_ + (i / 2 * chunks(num_samples_) + j / 2) * kSquare * kSquare + (i % 2 * kSquare + j % 2) * kSide;
        Vec<float> block[kSide];
        for (int d = 0; d < kSide; ++d) block[d] = load(from + d * kSquare);
        transpose<float>(block);
        for (std::int64_t s = j * kSide; s < num_samples_ && s < (j + 1) * kSide; ++s) {
          add_columns(dw_rows[s], i * kSide, block[s - j * kSide]);
        }
      }
    }
  }

 private:
  static constexpr int kTilesSummed = 16;

  void clear_grad_weights() {
    tiles_summed_ = 0;
    const std::int64_t size = chunks(dim_) * chunks(num_samples_) * kSquare * kSquare;
    for (std::int64_t i = 0; i < size; i += kLanes<float>) store(dw_ + i, Vec<float>{});
  }

  static const Bf16* rows_of(const Bf16* operand, std::int64_t square, std::int64_t depth) {
    return operand + square * 2 * depth * kParts * kBlock;
  }

  void add_columns(float* row, std::int64_t c, Vec<float> value) const {
    const std::int64_t left = dim_ - c;
    if (left >= kSide) {
      store(row + c, load(row + c) + value);
    } else {
      for (std::int64_t i = 0; i < left; ++i) row[c + i] += value[i];
    }
  }

  std::int64_t dim_;
  Bf16 *x_along_, *x_across_;  // A of the logits, A of dW
  Bf16 *w_along_, *w_across_;  // B of the logits, B of dX
  Bf16 *g_along_, *g_across_;  // A of dX, B of dW
  float* dw_;                  // squares [D, samples]
  float* square_;              // where one of dX is computed
  std::int64_t num_examples_ = 0, num_samples_ = 0;
  int tiles_summed_ = 0;  // in dw_
};
