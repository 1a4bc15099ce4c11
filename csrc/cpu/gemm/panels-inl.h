// GEMM on panels (tile-inl.h) in full precision: the one micro-kernel that all three GEMMs of a tile share.
// Compiled once per instruction set; the rules are in simd-inl.h.
//
//   X  [examples, D]     G [examples, samples]    W [samples, D]    and W transposed, [D, samples]
//   logits = X W^T       A = X by rows,    B = panels of W^T
//   dX    += G W         A = G by rows,    B = panels of W
//   dW    += G^T X       A = G by columns, B = panels of X
//
// B is read a panel at a time, two vectors per step of the inner dimension; A one element at a time, broadcast.
// So only W is transposed, and G is used in the layout in which the epilogue leaves it.
//
// Cost per step: M broadcasts and 2 vector loads feed 2 M multiply-adds, so from M = 5 on the multiply-add units are
// the limit, not the two load ports. M accumulator pairs + 2 B vectors + 1 broadcast must fit the registers.

constexpr int kMaxChunk = kVectorBytes == 64 ? 12 : 6;  // M: rows of A per micro-kernel; 32 or 16 registers

// Rows of a panel as allocated. One more than used: at a power of two, the same row of all panels would fall into the
// same few sets of the L1 cache.
constexpr std::int64_t padded_rows(std::int64_t rows) { return rows + 1; }

// How a micro-kernel walks through A: element (m, k) of the chunk lies at m * kRow + k * kDepth within a panel; after
// `panel_depth` steps of k it goes on in the next panel.
template <class T>
struct ByRows {
  static constexpr std::int64_t kRow = kPanel<T>;
  static constexpr std::int64_t kDepth = 1;
};
template <class T>
struct ByColumns {
  static constexpr std::int64_t kRow = 1;
  static constexpr std::int64_t kDepth = kPanel<T>;
};

// A product of a tile, C[0:rows, 0:cols] = A B or C += A B.
template <class T>
struct Product {
  std::int64_t rows, cols, depth;  // depth: length of the inner dimension
  const T* a;                      // first row of A
  std::int64_t a_panel_stride;     // elements from one panel of A to the next
  std::int64_t a_panel_depth;      // steps of the inner dimension per panel of A
  const T* b;                      // panels of B, kPanel elements per step of the inner dimension
  std::int64_t b_panel_stride;
  T* const* c;                  // rows of C
  std::int64_t c_panel_stride;  // elements from one panel of a row of C to the next; kPanel for plain rows
};

// One chunk of M rows of A and one panel of B, of which NV vectors are computed. `cols` of them are stored.
template <class T, int M, int NV, class Walk, Write kWrite>
void multiply_chunk(const Product<T>& p, const T* a_panel, const T* b, T* const* c_rows, std::int64_t c_offset,
                    std::int64_t cols) {
  if constexpr (kWrite == Write::kAdd) {
    // Rows of C come from beyond L1 and are needed only at the end.
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
      for (int v = 0; v < NV; ++v) __builtin_prefetch(c_rows[m] + c_offset + v * kLanes<T>, 1);
    }
  }
  Vec<T> sum[M][NV];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
    for (int v = 0; v < NV; ++v) sum[m][v] = Vec<T>{};
  }
  for (std::int64_t left = p.depth; left > 0; left -= p.a_panel_depth, a_panel += p.a_panel_stride) {
    const std::int64_t steps = left < p.a_panel_depth ? left : p.a_panel_depth;
    const T* a = a_panel;
    for (std::int64_t k = 0; k < steps; ++k, a += Walk::kDepth, b += kPanel<T>) {
      Vec<T> b_k[NV];
#pragma GCC unroll 2
      for (int v = 0; v < NV; ++v) b_k[v] = load(b + v * kLanes<T>);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        const Vec<T> a_mk = broadcast(a[m * Walk::kRow]);
#pragma GCC unroll 2
        for (int v = 0; v < NV; ++v) sum[m][v] += a_mk * b_k[v];
      }
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
    T* c = c_rows[m] + c_offset;
#pragma GCC unroll 2
    for (int v = 0; v < NV; ++v) {
      T* at = c + v * kLanes<T>;
      const std::int64_t left = cols - v * kLanes<T>;
      if constexpr (kWrite == Write::kSet) {
        store(at, sum[m][v]);  // tiles of ours are padded to whole vectors
      } else if (left >= kLanes<T>) {
        store(at, load(at) + sum[m][v]);
      } else {
        T lanes[kLanes<T>];
        store(lanes, sum[m][v]);
        for (std::int64_t i = 0; i < left; ++i) at[i] += lanes[i];
      }
    }
  }
}

template <class T>
using ChunkKernel = void (*)(const Product<T>&, const T*, const T*, T* const*, std::int64_t, std::int64_t);

template <class T, class Walk, Write kWrite, int NV, int... M>
ChunkKernel<T> chunk_kernel(std::int64_t rows, std::integer_sequence<int, M...>) {
  static constexpr ChunkKernel<T> kKernels[] = {multiply_chunk<T, M + 1, NV, Walk, kWrite>...};
  return kKernels[rows - 1];
}

// The whole product, in nearly equal chunks of at most kMaxChunk rows: 64 rows are 6 chunks of 10 or 11, none of which
// is too thin to keep the multiply-add units busy. A chunk of A stays in L1 while the panels of B stream past it from
// L2, and only its few rows of C are in use, each walked from end to end.
template <class T, class Walk, Write kWrite>
void multiply(const Product<T>& p) {
  using Chunks = std::make_integer_sequence<int, kMaxChunk>;
  const std::int64_t chunks = (p.rows + kMaxChunk - 1) / kMaxChunk;
  for (std::int64_t i = 0; i < chunks; ++i) {
    const std::int64_t first = p.rows * i / chunks;
    const std::int64_t size = p.rows * (i + 1) / chunks - first;
    const ChunkKernel<T> two_vectors = chunk_kernel<T, Walk, kWrite, 2>(size, Chunks{});
    const ChunkKernel<T> one_vector = chunk_kernel<T, Walk, kWrite, 1>(size, Chunks{});
    for (std::int64_t panel = 0; panel * kPanel<T> < p.cols; ++panel) {
      const std::int64_t cols = p.cols - panel * kPanel<T>;
      (cols > kLanes<T> ? two_vectors : one_vector)(p, p.a + first * Walk::kRow, p.b + panel * p.b_panel_stride,
                                                    p.c + first, panel * p.c_panel_stride, cols);
    }
  }
}

// Packs rows[0:count], each of `cols` elements, as a panel matrix. Columns past the last are 0.
template <class T>
void pack_rows(const T* const* rows, std::int64_t count, std::int64_t cols, T* packed, std::int64_t panel_stride) {
  for (std::int64_t r = 0; r < count; ++r) {
    T* to = packed + r * kPanel<T>;
    std::int64_t c = 0;
    for (; c + kPanel<T> <= cols; c += kPanel<T>, to += panel_stride) {
      store(to, load(rows[r] + c));
      store(to + kLanes<T>, load(rows[r] + c + kLanes<T>));
    }
    if (c < cols) {
      const std::int64_t left = cols - c;
      const bool two = left > kLanes<T>;
      const T* tail = rows[r] + c;
      store(to, left >= kLanes<T> ? load(tail) : load_first(tail, left));
      store(to + kLanes<T>, two ? load_first(tail + kLanes<T>, left - kLanes<T>) : Vec<T>{});
    }
  }
}

// Packs the transpose of rows[0:count], each of `cols` elements: a panel matrix of `cols` rows and `count` columns.
// Columns past the last are 0.
template <class T>
void pack_transposed(const T* const* rows, std::int64_t count, std::int64_t cols, T* packed) {
  for (std::int64_t group = 0; group < panels<T>(count) * 2; ++group) {
    const std::int64_t first = group * kLanes<T>;
    const std::int64_t present = count - first;  // rows of this group; may be 0 or less in a last half panel
    T* to = packed + (group / 2) * cols * kPanel<T> + (group % 2) * kLanes<T>;
    for (std::int64_t c = 0; c < cols; c += kLanes<T>) {
      const std::int64_t width = cols - c < kLanes<T> ? cols - c : kLanes<T>;
      Vec<T> block[kLanes<T>];
      for (std::int64_t i = first + kLanes<T>; i < first + 2 * kLanes<T> && i < count; ++i) {
        __builtin_prefetch(rows[i] + c);  // of the next group: rows lie anywhere in the table
      }
#pragma GCC unroll 16
      for (int i = 0; i < kLanes<T>; ++i) {
        block[i] = i >= present         ? Vec<T>{}
                   : width == kLanes<T> ? load(rows[first + i] + c)
                                        : load_first(rows[first + i] + c, width);
      }
      transpose<T>(block);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes<T>; ++i) {
        if (i < width) store(to + (c + i) * kPanel<T>, block[i]);
      }
    }
  }
}
