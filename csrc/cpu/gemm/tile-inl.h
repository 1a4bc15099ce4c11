// What all tiles share: panels and how they are stored. Compiled once per instruction set; the rules are in simd-inl.h.
//
// A panel matrix [rows, cols] stores its columns in panels of kPanel = two vectors: panel p holds, row after row, the
// columns [p kPanel, (p + 1) kPanel). All tiles store logits and G this way, with a row per example and a column per
// sample.

template <class T>
constexpr int kPanel = 2 * kLanes<T>;

template <class T>
constexpr std::int64_t panels(std::int64_t cols) {
  return (cols + kPanel<T> - 1) / kPanel<T>;
}

enum class Write { kSet, kAdd };  // C = A B, or C += A B

// What a tile's samples are packed for.
enum class Packed { kForLogits, kForGradients, kForBoth };

// Bounds of any tile, for arrays on the stack.
constexpr std::int64_t kMostTileExamples = 256;
constexpr std::int64_t kMostTileSamples = 512;

// The largest of the equal parts, none larger than `most`, that n is cut into: no thin one is left over.
constexpr std::int64_t even_part(std::int64_t n, std::int64_t most) {
  const std::int64_t parts = (n + most - 1) / most;
  return parts == 0 ? most : (n + parts - 1) / parts;
}

constexpr std::int64_t clamp(std::int64_t value, std::int64_t least, std::int64_t most) {
  return value < least ? least : value > most ? most : value;
}

// Where rows are gathered without a pause, as those of many groups of samples, they are asked for some 16 KiB ahead,
// and into the L2 cache: it waits for twice as many lines of memory as L1 can (measured on Zen 4: twice the rate).
constexpr std::int64_t kMostRowsAhead = 64;

[[gnu::always_inline]] inline std::int64_t rows_ahead(std::int64_t row_bytes) {
  return clamp(16384 / (row_bytes + 1), 8, kMostRowsAhead);
}

[[gnu::always_inline]] inline void prefetch_to_l2(const void* line) { __builtin_prefetch(line, 0, 2); }

// All lines of a row. It may start anywhere in one: NumPy's arrays do.
[[gnu::always_inline]] inline void prefetch_row_to_l2(const void* row, std::int64_t bytes) {
  const auto* const first = static_cast<const char*>(row);
  for (std::int64_t i = 0; i < bytes; i += 64) prefetch_to_l2(first + i);
  if (bytes > 0) prefetch_to_l2(first + bytes - 1);
}
