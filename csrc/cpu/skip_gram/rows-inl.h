// Rows of D floats: in tables, where they have no padding, and in scratch memory, where they are padded with zeros to
// whole vectors. Compiled once per instruction set; the rules are in simd-inl.h.

// Floats from one row of scratch memory to the next: an odd number of cache lines, so that rows share all sets of the
// L1 cache.
constexpr std::int64_t scratch_row(std::int64_t dim) { return ((dim + 15) / 16 | 1) * 16; }

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

template <Write kWrite>
[[gnu::always_inline]] inline void write_row(float* to, const float* from, std::int64_t dim) {
  std::int64_t d = 0;
  for (; d + kLanes<float> <= dim; d += kLanes<float>) {
    store(to + d, kWrite == Write::kAdd ? load(to + d) + load(from + d) : load(from + d));
  }
  write_tail<kWrite>(to + d, from + d, dim - d);
}

// Rows of scratch memory are worked on in parts of NV vectors that stay in registers.
constexpr int kMostRowVectors = 8;

// The lanes of the products of x with `count` rows, not yet added up: adds to (kAdd) or sets lanes [count, kLanes].
template <int NV, Write kWrite>
void multiply_rows(const float* x, const float* rows, std::int64_t row_stride, std::int64_t count, float* lanes) {
  Vec<float> x_v[NV];
#pragma GCC unroll 8
  for (int v = 0; v < NV; ++v) x_v[v] = load(x + v * kLanes<float>);
  for (std::int64_t r = 0; r < count; ++r, rows += row_stride, lanes += kLanes<float>) {
    Vec<float> sum = kWrite == Write::kAdd ? load(lanes) : Vec<float>{};
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) sum += x_v[v] * load(rows + v * kLanes<float>);
    store(lanes, sum);
  }
}

// sum = the sum of `count` rows, each times its weight.
template <int NV>
void add_up_rows(const float* weights, std::int64_t weight_stride, const float* rows, std::int64_t row_stride,
                 std::int64_t count, float* sum) {
  Vec<float> sum_v[NV];
#pragma GCC unroll 8
  for (int v = 0; v < NV; ++v) sum_v[v] = Vec<float>{};
  for (std::int64_t r = 0; r < count; ++r, rows += row_stride, weights += weight_stride) {
    const Vec<float> weight = broadcast(*weights);
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) sum_v[v] += weight * load(rows + v * kLanes<float>);
  }
#pragma GCC unroll 8
  for (int v = 0; v < NV; ++v) store(sum + v * kLanes<float>, sum_v[v]);
}

// The same for parts of NV = 1 to kMostRowVectors vectors.
struct RowKernels {
  void (*set_products)(const float*, const float*, std::int64_t, std::int64_t, float*);
  void (*add_products)(const float*, const float*, std::int64_t, std::int64_t, float*);
  void (*add_up)(const float*, std::int64_t, const float*, std::int64_t, std::int64_t, float*);
};

template <int... NV>
const RowKernels& row_kernels(int vectors, std::integer_sequence<int, NV...>) {
  static constexpr RowKernels kKernels[] = {
      {multiply_rows<NV + 1, Write::kSet>, multiply_rows<NV + 1, Write::kAdd>, add_up_rows<NV + 1>}...};
  return kKernels[vectors - 1];
}

inline const RowKernels& row_kernels(int vectors) {
  return row_kernels(vectors, std::make_integer_sequence<int, kMostRowVectors>{});
}

// The parts of a row of D elements: equal ones, but for the last.
class RowParts {
 public:
  explicit RowParts(std::int64_t dim)
      : vectors_((dim + kLanes<float> - 1) / kLanes<float>), step_(even_part(vectors_, kMostRowVectors)) {}

  // lanes = products of x with the rows, not yet added up.
  void multiply(const float* x, const float* rows, std::int64_t row_stride, std::int64_t count, float* lanes) const {
    for (std::int64_t v = 0; v < vectors_; v += step_) {
      const RowKernels& kernels = of_part(v);
      (v == 0 ? kernels.set_products : kernels.add_products)(x + v * kLanes<float>, rows + v * kLanes<float>,
                                                             row_stride, count, lanes);
    }
  }

  void add_up(const float* weights, std::int64_t weight_stride, const float* rows, std::int64_t row_stride,
              std::int64_t count, float* sum) const {
    for (std::int64_t v = 0; v < vectors_; v += step_) {
      of_part(v).add_up(weights, weight_stride, rows + v * kLanes<float>, row_stride, count, sum + v * kLanes<float>);
    }
  }

 private:
  const RowKernels& of_part(std::int64_t v) const {
    return row_kernels(static_cast<int>(vectors_ - v < step_ ? vectors_ - v : step_));
  }

  std::int64_t vectors_, step_;
};
