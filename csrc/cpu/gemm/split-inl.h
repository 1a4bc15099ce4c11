// float32 as a sum of bfloat16 parts, and the operand layout of instructions that multiply bfloat16 pairs.
// Compiled once per instruction set; the rules are in simd-inl.h. Needs 64-byte vectors.
//
// Rounding x to bfloat16 (8 significant bits), then what is left, then what is left of that, gives parts whose sum is x
// to 2^-8, 2^-17, exactly, for 1, 2, 3 parts (parts below 2^-126 are flushed to zero). The product of two numbers is
// the sum of the products of their parts; those of parts i and j with i + j >= kParts are below the error of the others
// and are left out:
//   kParts   products   error of a product, at most (typically a quarter of that)
//     1         1         2^-7
//     2         3         2^-15
//     3         6         2^-24, that of one float32 rounding
// If a number is not finite, or rounds to no finite bfloat16 (beyond 3.39e38), its products are NaN or infinite.
//
// An operand is a sequence of blocks, 16 x 16 words of 1 KiB, a word being a pair of bfloat16 from two steps of the
// inner dimension ("depth"), low half first. Depth is cut into chunks of kDepth = 32; the pairs of a chunk are its
// steps p and p + 16, which is as good an order as any as long as both operands keep it, and makes a pair from two
// vectors.
//   A [rows, depth]: word (i, p) of a block is row i, pair p.      B [depth, cols]: word (p, j) is pair p, column j.
// Blocks follow each other in the order part, chunk of depth, 16 rows or columns; the last varies slowest.

static_assert(kVectorBytes == 64);

using Bf16 = std::uint16_t;
using Words = VecBits<float>;  // 16 pairs

constexpr std::int64_t kSide = 16;               // of a block, in words
constexpr std::int64_t kDepth = 2 * kSide;       // steps of the inner dimension per block
constexpr std::int64_t kBlock = kSide * kDepth;  // bfloat16 per block
constexpr std::int64_t kSquare = 2 * kSide;      // rows and columns of C that one call of the multiplier computes

constexpr std::int64_t chunks(std::int64_t length) { return (length + kDepth - 1) / kDepth; }

enum class Operand { kA, kB };

[[gnu::always_inline]] inline Vec<float> zero_unless_finite(Vec<float> value, Words tested) {
  constexpr std::int32_t kExponent = 0x7f800000;
  return (tested & kExponent) != kExponent ? value : Vec<float>{};
}

// Parts of 32 numbers: word i of parts[q] holds part q of first[i] and second[i].
template <int kParts>
[[gnu::always_inline]] inline void split(Vec<float> first, Vec<float> second, Words (&parts)[kParts]) {
#pragma GCC unroll 3
  for (int q = 0; q < kParts; ++q) {
    parts[q] = rounded_pairs(first, second);
    if (q + 1 == kParts) break;
    const Words low = parts[q] << 16;
    const Words high = parts[q] & static_cast<std::int32_t>(0xffff0000u);
    first = zero_unless_finite(first - __builtin_bit_cast(Vec<float>, low), low);
    second = zero_unless_finite(second - __builtin_bit_cast(Vec<float>, high), high);
  }
}

[[gnu::always_inline]] inline void store_words(Bf16* to, Words words) {
  store(reinterpret_cast<float*>(to), __builtin_bit_cast(Vec<float>, words));
}

[[gnu::always_inline]] inline Words load_words(const Bf16* from) {
  return __builtin_bit_cast(Words, load(reinterpret_cast<const float*>(from)));
}

// Stores the 16 x 16 words of one block per part; words[q][i] is its row i, or its column i if `kTransposed`.
template <int kParts, bool kTransposed>
[[gnu::always_inline]] inline void store_blocks(Bf16* to, Words (&words)[kParts][kSide]) {
  for (int q = 0; q < kParts; ++q) {
    Vec<float> rows[kSide];
    for (int i = 0; i < kSide; ++i) rows[i] = __builtin_bit_cast(Vec<float>, words[q][i]);
    if constexpr (kTransposed) transpose<float>(rows);
    for (int i = 0; i < kSide; ++i) store(reinterpret_cast<float*>(to + q * kBlock + i * kDepth), rows[i]);
  }
}

// 16 elements of a row from column c on; 0 past its end.
[[gnu::always_inline]] inline Vec<float> load_columns(const float* row, std::int64_t c, std::int64_t cols) {
  const std::int64_t left = cols - c;
  return left >= kSide ? load(row + c) : left > 0 ? load_first(row + c, left) : Vec<float>{};
}

// Packs rows[0:count] of `cols` elements as an operand whose depth runs along the rows: A with a row each, or B with a
// column each. Padding is 0.
template <int kParts, Operand kOperand>
void pack_along_rows(const float* const* rows, std::int64_t count, std::int64_t cols, Bf16* to) {
  const std::int64_t depth_chunks = chunks(cols);
  for (std::int64_t r = 0; r < chunks(count) * kDepth; r += kSide) {
    for (std::int64_t k = 0; k < depth_chunks; ++k, to += kParts * kBlock) {
      if constexpr (kOperand == Operand::kB) {
        // Of the next rows: those of W lie anywhere in the table.
        for (std::int64_t i = r + kSide; i < r + 2 * kSide && i < count; ++i) {
          __builtin_prefetch(rows[i] + k * kDepth);
          __builtin_prefetch(rows[i] + k * kDepth + kSide);
        }
      }
      Words words[kParts][kSide];
      for (int i = 0; i < kSide; ++i) {
        Words parts[kParts] = {};
        if (r + i < count) {
          const float* row = rows[r + i];
          split<kParts>(load_columns(row, k * kDepth, cols), load_columns(row, k * kDepth + kSide, cols), parts);
        }
        for (int q = 0; q < kParts; ++q) words[q][i] = parts[q];
      }
      store_blocks<kParts, kOperand == Operand::kB>(to, words);
    }
  }
}

// Packs rows[0:count] of `cols` elements as an operand whose depth runs across the rows: A with a row per column of
// theirs (their transpose), or B. Padding is 0.
template <int kParts, Operand kOperand>
void pack_across_rows(const float* const* rows, std::int64_t count, std::int64_t cols, Bf16* to) {
  const std::int64_t depth_chunks = chunks(count);
  for (std::int64_t c = 0; c < chunks(cols) * kDepth; c += kSide) {
    for (std::int64_t k = 0; k < depth_chunks; ++k, to += kParts * kBlock) {
      Words words[kParts][kSide];
      for (int p = 0; p < kSide; ++p) {
        const std::int64_t r = k * kDepth + p;
        const Vec<float> first = r < count ? load_columns(rows[r], c, cols) : Vec<float>{};
        const Vec<float> second = r + kSide < count ? load_columns(rows[r + kSide], c, cols) : Vec<float>{};
        Words parts[kParts];
        split<kParts>(first, second, parts);
        for (int q = 0; q < kParts; ++q) words[q][p] = parts[q];
      }
      store_blocks<kParts, kOperand == Operand::kA>(to, words);
    }
  }
}

// Packs G, panels of 32 samples with a row per example, for both of its products: A [examples, samples] and B
// [examples, samples]. What the parts of a row pair share is computed once: from the words of rows p and p + 16, each
// pairing samples i and i + 16, come those that pair the two rows.
template <int kParts>
void pack_grad(const float* panels, std::int64_t panel_stride, std::int64_t examples, std::int64_t samples, Bf16* a,
               Bf16* b) {
  const std::int64_t example_chunks = chunks(examples);
  const std::int64_t sample_chunks = chunks(samples);
  for (std::int64_t j = 0; j < sample_chunks; ++j) {
    const bool two = samples - j * kDepth > kSide;  // else the second half of the panel holds no samples
    for (std::int64_t k = 0; k < example_chunks; ++k) {
      const float* chunk = panels + j * panel_stride + k * kDepth * kDepth;
      for (std::int64_t p = 0; p < kSide; ++p) {
        Words upper[kParts] = {};
        Words lower[kParts] = {};
        const auto split_row = [&](std::int64_t row, Words(&parts)[kParts]) {
          if (k * kDepth + row >= examples) return;
          const float* g = chunk + row * kDepth;
          split<kParts>(load(g), two ? load(g + kSide) : Vec<float>{}, parts);
        };
        split_row(p, upper);
        split_row(p + kSide, lower);
        for (int q = 0; q < kParts; ++q) {
          Bf16* const a_row = a + (2 * k * sample_chunks + j) * kParts * kBlock + q * kBlock + p * kDepth;
          store_words(a_row, upper[q]);
          store_words(a_row + sample_chunks * kParts * kBlock, lower[q]);
          constexpr std::int32_t kHigh = static_cast<std::int32_t>(0xffff0000u);
          Bf16* const b_row = b + (2 * j * example_chunks + k) * kParts * kBlock + q * kBlock + p * kDepth;
          store_words(b_row, (upper[q] & ~kHigh) | (lower[q] << 16));
          store_words(b_row + example_chunks * kParts * kBlock, ((upper[q] >> 16) & ~kHigh) | (lower[q] & kHigh));
        }
      }
    }
  }
}
