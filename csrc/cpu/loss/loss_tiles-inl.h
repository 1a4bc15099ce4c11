// Fused epilogue of the [B, S] GEMM, tile by tile (TileKernels in loss_kernels.h): hit masking, loss, and G =
// dL/dlogit, in the precision of the arrays. `Tile` supplies the GEMMs: PanelTile (panel_tile-inl.h) in full precision,
// SplitTile (split_tile-inl.h) from bfloat16 parts. Compiled once per instruction set; the rules are in simd-inl.h.

// Mark the product of a removed hit until the epilogue reads it: a NaN with a payload that no arithmetic makes,
// compared as an integer. Every number may be a product: tables mask classes with -1e30 or the lowest finite number.
template <class T>
constexpr std::int32_t kRemovedBits = 0x7FC52D1B;
template <>
constexpr std::int64_t kRemovedBits<double> = 0x7FF8C52D1B693A57;

// The lanes of samples that count, of those in the tile.
template <class T>
[[gnu::always_inline]] inline VecBits<T> kept_of(Vec<T> product, VecBits<T> in_tile) {
  return in_tile & (__builtin_bit_cast(VecBits<T>, product) != VecBits<T>{} + kRemovedBits<T>);
}

// Copies G of a tile to where its group's is kept, transposed: the examples of a sample stand together.
template <class Tile, class T = typename Tile::Element>
void keep_grad(const LossTask<T>& task, Range examples, Range sampled, const Tile& tile) {
  const std::int64_t stride = task.group.examples.size();
  T* const first = task.group.grad + sampled.begin * stride + (examples.begin - task.group.examples.begin);
  for (std::int64_t s = 0; s < sampled.size(); s += kLanes<T>) {
    const T* const column = tile.logits + s / kPanel<T> * tile.logits_panel + s % kPanel<T>;
    const std::int64_t present = sampled.size() - s < kLanes<T> ? sampled.size() - s : kLanes<T>;
    std::int64_t b = 0;
    if (stride == 1 && present == kLanes<T>) {
      store(first + s, load(column));
      continue;
    }
    for (; b + kLanes<T> <= examples.size(); b += kLanes<T>) {
      Vec<T> block[kLanes<T>];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes<T>; ++i) block[i] = load(column + (b + i) * kPanel<T>);
      transpose<T>(block);
      for (std::int64_t i = 0; i < present; ++i) store(first + (s + i) * stride + b, block[i]);
    }
    for (; b < examples.size(); ++b) {
      for (std::int64_t i = 0; i < present; ++i) first[(s + i) * stride + b] = column[b * kPanel<T> + i];
    }
  }
}

// G, summed over the examples of a tile, for a vector of samples.
template <class T>
struct ColumnSum {
  static constexpr std::int64_t kSummed = 32;
  Vec<T> whole{};
  Vec<T> part{};  // of up to kSummed examples: long sums of float32 lose digits

  [[gnu::always_inline]] void start(std::int64_t example) {
    if (example % kSummed != 0) return;
    whole += part;
    part = Vec<T>{};
  }
  [[gnu::always_inline]] void add(Vec<T> g) { part += g; }
  [[gnu::always_inline]] void add_to(T* bias_sum, std::int64_t present) const {
    T lanes[kLanes<T>];
    store(lanes, whole + part);
    for (std::int64_t i = 0; i < present; ++i) bias_sum[i] += lanes[i];
  }
};

// The rows of a tile's examples: inputs and, if wanted, their gradients.
template <class T>
struct ExampleRows {
  const T* x[kMostTileExamples];
  T* dx[kMostTileExamples];

  ExampleRows(const LossTask<T>& task, Range examples) {
    for (std::int64_t b = 0; b < examples.size(); ++b) {
      x[b] = task.input(examples.begin + b);
      if (task.grad_inputs != nullptr) dx[b] = task.grad_input(examples.begin + b);
    }
  }
};

// The rows of a tile's samples: of the table, widened into `buffer` where they are not stored as T, and of dW. Of
// several groups also the rows that come next, which a tile may prefetch; widened ones were prefetched here.
template <class T>
struct SampleRows {
  const T* w[kMostTileSamples + kMostRowsAhead];
  T* dw[kMostTileSamples];

  SampleRows(const LossTask<T>& task, Range samples, const TeamSums<T>& sums, T* buffer) {
    const RowAddresses rows(task.weights);
    const bool stored = is_stored_as<T>(task.weights.dtype);
    const std::int64_t row_bytes = task.dim * element_bytes(task.weights.dtype);
    const bool prefetch = task.groups.count > 1;
    const std::int64_t ahead = rows_ahead(row_bytes);
    const std::int64_t ahead_of_tile = prefetch ? rows_ahead(task.dim * static_cast<std::int64_t>(sizeof(T))) : 0;
    const std::int64_t last = task.num_sampled + task.group.following - 1;
    for (std::int64_t i = 0; i < samples.size(); ++i) {
      const std::int64_t s = samples.begin + i;
      const void* const row = rows[task.sampled[s]];
      if (stored) {
        w[i] = static_cast<const T*>(row);
      } else {
        if (prefetch) prefetch_row_to_l2(rows[task.sampled[s + ahead < last ? s + ahead : last]], row_bytes);
        widen<T>(row, task.weights.dtype, task.dim, buffer + i * task.dim);
        w[i] = buffer + i * task.dim;
      }
      if (task.grad_weights == nullptr) continue;
      dw[i] = sums.weights != nullptr ? sums.weights + s * task.dim : task.grad_weights_row(task.sampled_row[s]);
    }
    for (std::int64_t i = 0; i < ahead_of_tile; ++i) {
      const std::int64_t s = samples.end + i;
      w[samples.size() + i] =
          stored ? static_cast<const T*>(rows[task.sampled[s < last ? s : last]]) : w[samples.size() - 1];
    }
  }
};
