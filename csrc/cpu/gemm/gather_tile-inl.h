// A tile of so few examples that packing rows of the table costs more than it saves: its products read the rows where
// they lie, each from memory once. Compiled once per instruction set; the rules are in simd-inl.h.

// The column at which vector `v` of a row starts. The last ends with the row: it computes some numbers of the one
// before a second time, to the same bits, where a part of a vector would take a loop.
template <class T>
[[gnu::always_inline]] inline std::int64_t column_of(std::int64_t v, std::int64_t dim) {
  const std::int64_t last = dim - kLanes<T>;
  return v * kLanes<T> < last ? v * kLanes<T> : last;
}

// sum[i] = x times row i, lane by lane, for N rows.
template <class T, int N>
[[gnu::always_inline]] inline void products(const T* x, const T* const* rows, std::int64_t dim, Vec<T>* sum) {
  Vec<T> own[N] = {};
  std::int64_t d = 0;
  for (; d + kLanes<T> <= dim; d += kLanes<T>) {
    const Vec<T> x_d = load(x + d);
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) own[i] += load(rows[i] + d) * x_d;
  }
  if (d < dim && dim > kLanes<T>) {
    // The last vector, without what the one before has: 0 times an infinity would be NaN.
    const VecBits<T> left = ~first_lanes<T>(kLanes<T> - (dim - d));
    const Vec<T> x_d = load(x + dim - kLanes<T>);
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) own[i] += left ? load(rows[i] + dim - kLanes<T>) * x_d : Vec<T>{};
  } else if (d < dim) {
    const Vec<T> x_d = load_first(x, dim);
    for (int i = 0; i < N; ++i) own[i] = load_first(rows[i], dim) * x_d;
  }
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) sum[i] = own[i];
}

// x . w for kLanes rows w: many independent sums, and one reduction of their lanes for all. At most 8 at a time, whose
// addresses fit the registers.
template <class T>
Vec<T> dots(const T* x, const T* const* rows, std::int64_t dim) {
  constexpr int kAtOnce = kLanes<T> < 8 ? kLanes<T> : 8;
  Vec<T> sum[kLanes<T>];
#pragma GCC unroll 2
  for (int i = 0; i < kLanes<T>; i += kAtOnce) products<T, kAtOnce>(x, rows + i, dim, sum + i);
  return sums_of_rows<T>(sum);
}

struct NoRows {};

// to[0:dim] = or += the sum of row(i), times factor(i), over i < count: at most kRowVectors vectors of it at a time, in
// registers. The last vector may overlap the one before, which is always computed beside it: the parts are nearly
// equal. Beside row i, ahead(i) is prefetched; NoRows: nothing is.
constexpr int kRowVectors = 8;

template <class T, Write kWrite, int NV, class Factor, class Row, class Ahead>
void weighted_vectors(T* to, std::int64_t first, std::int64_t dim, std::int64_t count, const Factor& factor,
                      const Row& row, const Ahead& ahead) {
  constexpr int kLineVectors = 64 / kVectorBytes;
  std::int64_t column[NV];
  Vec<T> sum[NV];
#pragma GCC unroll 8
  for (int v = 0; v < NV; ++v) {
    column[v] = column_of<T>(first + v, dim);
    sum[v] = Vec<T>{};
  }
  for (std::int64_t i = 0; i < count; ++i) {
    if constexpr (!std::is_same_v<Ahead, NoRows>) {
      const T* const next = ahead(i);
#pragma GCC unroll 8
      for (int v = 0; v < NV; v += kLineVectors) prefetch_to_l2(next + column[v]);
      prefetch_to_l2(next + dim - 1);
    }
    const T g = factor(i);
    const T* const from = row(i);
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) sum[v] += g * load(from + column[v]);
  }
#pragma GCC unroll 8
  for (int v = 0; v < NV && kWrite == Write::kAdd; ++v) sum[v] += load(to + column[v]);
#pragma GCC unroll 8
  for (int v = 0; v < NV; ++v) store(to + column[v], sum[v]);
}

template <class T, Write kWrite, class Factor, class Row, class Ahead>
void weighted_sum(T* to, std::int64_t dim, std::int64_t count, const Factor& factor, const Row& row,
                  const Ahead& ahead) {
  if (dim < kLanes<T>) {
    T sum[kLanes<T>] = {};
    for (std::int64_t i = 0; i < count; ++i) {
      if constexpr (!std::is_same_v<Ahead, NoRows>) prefetch_to_l2(ahead(i));
      const T g = factor(i);
      const T* const from = row(i);
      for (std::int64_t d = 0; d < dim; ++d) sum[d] += g * from[d];
    }
    for (std::int64_t d = 0; d < dim; ++d) to[d] = kWrite == Write::kSet ? sum[d] : to[d] + sum[d];
    return;
  }
  const std::int64_t vectors = (dim + kLanes<T> - 1) / kLanes<T>;
  const std::int64_t step = even_part(vectors, kRowVectors);
  for (std::int64_t v = 0; v < vectors; v += step) {
    switch (vectors - v < step ? vectors - v : step) {
      case 1: weighted_vectors<T, kWrite, 1>(to, v, dim, count, factor, row, ahead); break;
      case 2: weighted_vectors<T, kWrite, 2>(to, v, dim, count, factor, row, ahead); break;
      case 3: weighted_vectors<T, kWrite, 3>(to, v, dim, count, factor, row, ahead); break;
      case 4: weighted_vectors<T, kWrite, 4>(to, v, dim, count, factor, row, ahead); break;
      case 5: weighted_vectors<T, kWrite, 5>(to, v, dim, count, factor, row, ahead); break;
      case 6: weighted_vectors<T, kWrite, 6>(to, v, dim, count, factor, row, ahead); break;
      case 7: weighted_vectors<T, kWrite, 7>(to, v, dim, count, factor, row, ahead); break;
      default: weighted_vectors<T, kWrite, 8>(to, v, dim, count, factor, row, ahead);
    }
  }
}

template <class T>
class GatherTile {
 public:
  using Element = T;

  GatherTile(const PlaneShape& plane, T* scratch)
      : dim_(plane.dim),
        adds_grad_inputs_(plane.grad_inputs),
        ahead_(rows_ahead(plane.dim * static_cast<std::int64_t>(sizeof(T)))) {
    constexpr std::int64_t kMostExamples = 8;
    // Between the two products the rows wait in the L1 cache: half of the smallest.
    const std::int64_t fitting = 16384 / (dim_ * static_cast<std::int64_t>(sizeof(T)) + 1);
    examples = clamp(plane.batch, 1, kMostExamples);
    samples = clamp(plane.num_sampled, 1, clamp((fitting + 1) / kLanes<T> * kLanes<T>, kLanes<T>, kMostTileSamples));
    logits_panel = examples * kPanel<T>;
    std::int64_t used = 0;
    const auto take = [&](std::int64_t elements) {
      used += elements;
      return scratch == nullptr ? nullptr : scratch + used - elements;
    };
    x_elements = examples * static_cast<std::int64_t>(sizeof(const T*) / sizeof(T));
    x_ = reinterpret_cast<const T**>(take(x_elements));
    logits_elements = panels<T>(samples) * logits_panel;
    logits = take(logits_elements);
    loss_lanes = take(examples * kLanes<T>);
    scratch_elements = used;
  }

  std::int64_t examples, samples;  // size of a whole tile
  std::int64_t scratch_elements;
  T* logits;                                 // panels [samples] of rows [examples]: X W^T, then G
  std::int64_t logits_panel;                 // elements from one panel to the next
  T* loss_lanes;                             // [examples, kLanes]
  std::int64_t x_elements, logits_elements;  // of the addresses of X and of the logits

  // kMostRowsAhead more rows are there to be prefetched.
  void enter_samples(const T* const* w_rows, std::int64_t count, Packed) {
    w_ = w_rows;
    num_samples_ = count;
  }

  void use_examples(T* memory, std::int64_t count) {
    x_ = reinterpret_cast<const T**>(memory);
    num_examples_ = count;
  }

  void enter_examples(const T* const* x_rows, std::int64_t count) {
    for (std::int64_t b = 0; b < count; ++b) x_[b] = x_rows[b];
    num_examples_ = count;
  }

  void multiply_logits() {
    for (std::int64_t s = 0; s < num_samples_; s += kLanes<T>) {
      const std::int64_t end = s + kLanes<T> < num_samples_ ? s + kLanes<T> : num_samples_;
      const T* rows[kLanes<T>];  // repeated past the last; what comes of those is not read
      for (std::int64_t i = 0; i < kLanes<T>; ++i) {
        rows[i] = w_[s + i < end ? s + i : end - 1];
        if (!adds_grad_inputs_ && s + i < end) {
          prefetch_row_to_l2(w_[s + i + ahead_], dim_ * static_cast<std::int64_t>(sizeof(T)));
        }
      }
      T* const to = logits + s / kPanel<T> * logits_panel + s % kPanel<T>;
      for (std::int64_t b = 0; b < num_examples_; ++b) store(to + b * kPanel<T>, dots(x_[b], rows, dim_));
    }
  }

  void enter_grad() {}  // G is used as the loss left it

  void add_grad_inputs(T* const* dx_rows) {
    for (std::int64_t b = 0; b < num_examples_; ++b) {
      for (std::int64_t s = 0; s < num_samples_; s += kPanel<T>) {
        const std::int64_t count = num_samples_ - s < kPanel<T> ? num_samples_ - s : kPanel<T>;
        const T* const g = logits + s / kPanel<T> * logits_panel + b * kPanel<T>;
        const auto factor = [&](std::int64_t i) { return g[i]; };
        const auto row = [&](std::int64_t i) { return w_[s + i]; };
        const auto ahead = [&](std::int64_t i) { return w_[s + i + ahead_]; };
        b == 0 ? weighted_sum<T, Write::kAdd>(dx_rows[b], dim_, count, factor, row, ahead)
               : weighted_sum<T, Write::kAdd>(dx_rows[b], dim_, count, factor, row, NoRows{});
      }
    }
  }

  void add_grad_weights(T* const*) {}  // rows are computed from G that was kept
  void leave_samples(T* const*) {}

 private:
  std::int64_t dim_;
  // Rows that come next are prefetched beside dX, whose rows are in L1. The logits read rows from L2: they would wait
  // behind the prefetches, which fill its queue.
  bool adds_grad_inputs_;
  std::int64_t ahead_;
  const T** x_;  // [examples]: where the inputs are
  const T* const* w_ = nullptr;
  std::int64_t num_examples_ = 0, num_samples_ = 0;
};
