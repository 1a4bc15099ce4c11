// The matrices of a block, in parts of their columns whose width is a constant of the kernels, and the kernels on one
// part. Compiled once per instruction set; the rules are in simd-inl.h.
//
// A part is NV vectors wide, and so is the distance of its rows: 100 columns are one part of seven vectors of 16, 300
// three of seven. Sums of one or two rows stay in registers, so that every product reads its operands where they are.
// Past the last column, parts hold zeros. A class of products says what the three products with the negatives read and
// how they multiply: FloatProducts here, or bfloat16_products-inl.h.

constexpr int kMostPartVectors = kVectorBytes == 64 ? 8 : 6;  // two rows of sums, two broadcasts: 32 or 16 registers
constexpr int kLogitRows = kVectorBytes == 64 ? 8 : 4;        // by two vectors

// to = from, or to += from: `count` < 2 kSize elements, in pieces that halve.
template <Write kWrite, int kSize = kLanes<float> / 2>
[[gnu::always_inline]] inline void write_tail(float* to, const float* from, std::int64_t count) {
  if constexpr (kSize > 0) {
    if (count & kSize) {
      typedef float Piece __attribute__((vector_size(kSize * sizeof(float))));
      Piece value;
      __builtin_memcpy(&value, from, sizeof value);
      if constexpr (kWrite == Write::kAdd) {
        Piece before;
        __builtin_memcpy(&before, to, sizeof before);
        value += before;
      }
      __builtin_memcpy(to, &value, sizeof value);
      to += kSize;
      from += kSize;
    }
    write_tail<kWrite, kSize / 2>(to, from, count);
  }
}

// A row of a part, of which `columns` are there, added to a row of a table.
template <int NV>
[[gnu::always_inline]] inline void add_to_row(float* row, const Vec<float> (&sum)[NV], std::int64_t columns) {
#pragma GCC unroll 8
  for (int v = 0; v < NV; ++v) {
    const std::int64_t left = columns - v * kLanes<float>;
    float* const to = row + v * kLanes<float>;
    if (left >= kLanes<float>) {
      store(to, load(to) + sum[v]);
    } else if (left > 0) {
      float lanes[kLanes<float>];
      store(lanes, sum[v]);
      write_tail<Write::kAdd>(to, lanes, left);
    }
  }
}

// Rows of tables that the next block reads. A block asks for a few of them at a time, all along its way: the processor
// waits for so many lines of memory at once and no more. Always inlined, like all that only prefetches: the compiler
// takes a call of it for one without effect.
struct RowsAhead {
  static constexpr std::int64_t kMostRows = 64 + 64 + 128;

  [[gnu::always_inline]] void add(const float* row) { rows[count++] = row; }
  [[gnu::always_inline]] void ask(std::int64_t some) {
    for (; some > 0 && next < count; --some, ++next) prefetch_row_to_l2(rows[next], bytes);
  }

  std::int64_t bytes = 0, count = 0, next = 0;
  const float* rows[kMostRows];
};

// What one step works on, beside the parts.
struct SkipGramState {
  std::int64_t count, contexts, samples;  // of this block
  std::int64_t window, slots;             // slots of a centre in the band, padded
  float* vector_rows[64];                 // of the table: those of centres
  float* output_rows[128];                // and of negatives
  float* const* context_rows;             // [contexts]; null: none
  const std::int32_t *to_left, *to_right;
  float *g, *band, *lanes;
  float *g_along, *g_across;  // G [L, S] as A of dX and of dN
  RowsAhead ahead;
};

// Columns [begin, begin + columns) of X [L, width], C [L + 2 W, width], N [S, width], and N transposed in panels.
struct SkipGramPart {
  std::int64_t begin, columns;
  float *x, *c, *n, *n_transposed;
  float *x_along, *n_along;    // X and N transposed as A and B of the logits
  float *x_across, *n_across;  // as B of dN and of dX
};

// Keeps the compiler from reading memory again at each use of the value: the load ports would be the limit.
[[gnu::always_inline]] inline void keep_in_register([[maybe_unused]] Vec<float>& value) {
#if defined(__x86_64__)
  asm("" : "+v"(value));
#elif defined(__aarch64__)
  asm("" : "+w"(value));
#endif
}

// Products of the copies themselves.
struct FloatProducts {
  static constexpr std::int64_t kSteps = 1;  // of the inner dimension in a word of an operand
  static constexpr bool kCopies = false;     // operands have memory of their own

  static constexpr std::int64_t words(std::int64_t steps) { return steps; }
  [[gnu::always_inline]] static Vec<float> add(Vec<float> sum, Vec<float> a, Vec<float> b) { return sum + a * b; }
  template <int NV>
  static void enter(const SkipGramState&, const SkipGramPart&) {}
  static void enter_grad(const SkipGramState&) {}
};

// sum[r][v] += a[r][k] b[k][v], over k.
template <class Products, int R, int NV>
[[gnu::always_inline]] inline void accumulate(Vec<float> (&sum)[R][NV], std::int64_t words, const float* a,
                                              std::int64_t a_row, std::int64_t a_step, const float* b,
                                              std::int64_t b_step) {
  for (std::int64_t k = 0; k < words; ++k, a += a_step, b += b_step) {
    Vec<float> b_k[NV];
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      b_k[v] = load(b + v * kLanes<float>);
      keep_in_register(b_k[v]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec<float> a_rk = broadcast(a[r * a_row]);
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) sum[r][v] = Products::add(sum[r][v], a_rk, b_k[v]);
    }
  }
}

template <class Products, int NV>
struct SkipGramPartKernels {
  static constexpr std::int64_t kWidth = NV * kLanes<float>;

  // Copies rows of a table; null: a row of zeros.
  static void copy(const float* const* rows, std::int64_t count, const SkipGramPart& part, float* to) {
    for (std::int64_t r = 0; r < count; ++r, to += kWidth) {
      const float* const from = rows[r] == nullptr ? nullptr : rows[r] + part.begin;
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) {
        const std::int64_t left = part.columns - v * kLanes<float>;
        if (from == nullptr) {
          store(to + v * kLanes<float>, Vec<float>{});
        } else if (left >= kLanes<float>) {
          store(to + v * kLanes<float>, load(from + v * kLanes<float>));
        } else if (left > 0) {
          write_tail<Write::kSet>(to + v * kLanes<float>, from + v * kLanes<float>, left);
        }
      }
    }
  }

  // What the products read beside the copies.
  static void enter(const SkipGramState& s, const SkipGramPart& part) {
    const float* rows[128];
    for (std::int64_t r = 0; r < s.samples; ++r) rows[r] = part.n + r * kWidth;
    pack_transposed(rows, s.samples, kWidth, part.n_transposed);
    Products::template enter<NV>(s, part);
  }

  // G = X N^T, or G += X N^T but for the first part.
  static void multiply_logits(SkipGramState& s, const SkipGramPart& part) {
    constexpr std::int64_t kRow = Products::words(kWidth);
    for (std::int64_t p = 0; p < s.samples; p += kPanel<float>) {
      for (std::int64_t i = 0; i < s.count; i += kLogitRows) {
        s.ahead.ask(1);
        Vec<float> sum[kLogitRows][2] = {};
        accumulate<Products>(sum, Products::words(part.columns), part.x_along + i * kRow, kRow, 1,
                             part.n_along + p * kRow, kPanel<float>);
#pragma GCC unroll 8
        for (int r = 0; r < kLogitRows; ++r) {
          float* const to = s.g + (i + r) * s.samples + p;
#pragma GCC unroll 2
          for (int v = 0; v < 2; ++v) {
            float* const at = to + v * kLanes<float>;
            store(at, part.begin == 0 ? sum[r][v] : load(at) + sum[r][v]);
          }
        }
      }
    }
  }

  // The products of centre i with its contexts, lanes not yet added up, in its slots of s.lanes.
  static void multiply_pairs(const SkipGramState& s, const SkipGramPart& part, std::int64_t i) {
    const std::int64_t first = s.window - s.to_left[i];
    const std::int64_t end = s.window + 1 + s.to_right[i];
    const float* const x = part.x + i * kWidth;
    const float* c = part.c + (i + first) * kWidth;
    Vec<float> x_v[NV];
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) x_v[v] = load(x + v * kLanes<float>);
    for (std::int64_t o = first; o < end; ++o, c += kWidth) {
      float* const lanes = s.lanes + o * kLanes<float>;
      Vec<float> sum = part.begin == 0 ? Vec<float>{} : load(lanes);
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) sum += x_v[v] * load(c + v * kLanes<float>);
      store(lanes, sum);
    }
  }

  // Rows of `rows` that begin with the first, each times its weight, added to `sum`.
  [[gnu::always_inline]] static void add_rows(Vec<float> (&sum)[NV], const float* weights, std::int64_t weight_step,
                                              const float* rows, std::int64_t count) {
    for (std::int64_t r = 0; r < count; ++r, weights += weight_step, rows += kWidth) {
      const Vec<float> weight = broadcast(*weights);
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) sum[v] += weight * load(rows + v * kLanes<float>);
    }
  }

  // Vectors of centres += G N + band C.
  static void update_vectors(SkipGramState& s, const SkipGramPart& part) {
    const std::int64_t g_row = s.samples / Products::kSteps;
    for (std::int64_t i = 0; i < s.count; i += 2) {
      s.ahead.ask(1);
      Vec<float> sum[2][NV] = {};
      accumulate<Products>(sum, g_row, s.g_along + i * g_row, g_row, 1, part.n_across, kWidth);
#pragma GCC unroll 2
      for (int r = 0; r < 2; ++r) {
        const std::int64_t at = i + r;
        if (at == s.count) break;
        const std::int64_t first = s.window - s.to_left[at];
        add_rows(sum[r], s.band + at * s.slots + first, 1, part.c + (at + first) * kWidth,
                 s.to_left[at] + 1 + s.to_right[at]);
        add_to_row(s.vector_rows[at] + part.begin, sum[r], part.columns);
      }
    }
  }

  // Outputs of negatives += G^T X.
  static void update_samples(SkipGramState& s, const SkipGramPart& part) {
    const std::int64_t steps = (s.count + Products::kSteps - 1) / Products::kSteps;
    for (std::int64_t n = 0; n < s.samples; n += 2) {
      s.ahead.ask(2);
      Vec<float> sum[2][NV] = {};
      accumulate<Products>(sum, steps, s.g_across + n, 1, s.samples, part.x_across, kWidth);
#pragma GCC unroll 2
      for (int r = 0; r < 2; ++r) add_to_row(s.output_rows[n + r] + part.begin, sum[r], part.columns);
    }
  }

  // Outputs of contexts += band^T X: context j is in slot j - i of centre i.
  static void update_contexts(SkipGramState& s, const SkipGramPart& part) {
    for (std::int64_t j = 0; j < s.contexts; ++j) {
      s.ahead.ask(1);
      if (s.context_rows[j] == nullptr) continue;
      const std::int64_t first = j - 2 * s.window > 0 ? j - 2 * s.window : 0;
      const std::int64_t end = j + 1 < s.count ? j + 1 : s.count;
      Vec<float> sum[NV] = {};
      add_rows(sum, s.band + first * s.slots + (j - first), s.slots - 1, part.x + first * kWidth, end - first);
      add_to_row(s.context_rows[j] + part.begin, sum, part.columns);
    }
  }
};

// The kernels above, for a number of vectors.
struct SkipGramPartTable {
  std::int64_t width;
  void (*copy)(const float* const*, std::int64_t, const SkipGramPart&, float*);
  void (*enter)(const SkipGramState&, const SkipGramPart&);
  void (*multiply_logits)(SkipGramState&, const SkipGramPart&);
  void (*multiply_pairs)(const SkipGramState&, const SkipGramPart&, std::int64_t);
  void (*update_vectors)(SkipGramState&, const SkipGramPart&);
  void (*update_samples)(SkipGramState&, const SkipGramPart&);
  void (*update_contexts)(SkipGramState&, const SkipGramPart&);
};

template <class Products, int NV, class K = SkipGramPartKernels<Products, NV>>
constexpr SkipGramPartTable kSkipGramPartTable = {
    K::kWidth,         K::copy,           K::enter,          K::multiply_logits,
    K::multiply_pairs, K::update_vectors, K::update_samples, K::update_contexts,
};

template <class Products, int... NV>
const SkipGramPartTable& skip_gram_part_table(std::int64_t vectors, std::integer_sequence<int, NV...>) {
  static constexpr SkipGramPartTable kTables[] = {kSkipGramPartTable<Products, NV + 1>...};
  return kTables[vectors - 1];
}

// Of the equal parts that rows of D columns are cut into.
template <class Products>
const SkipGramPartTable& skip_gram_part_table(std::int64_t dim) {
  const std::int64_t vectors = (dim + kLanes<float> - 1) / kLanes<float>;
  return skip_gram_part_table<Products>(even_part(vectors, kMostPartVectors),
                                        std::make_integer_sequence<int, kMostPartVectors>{});
}
