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

// The first of positions[begin .. end), which ascend, that is at least `least`.
[[gnu::always_inline]] inline std::int64_t first_from(const std::int64_t* positions, std::int64_t begin,
                                                      std::int64_t end, std::int64_t least) {
  while (begin < end) {
    const std::int64_t middle = (begin + end) / 2;
    positions[middle] < least ? begin = middle + 1 : end = middle;
  }
  return begin;
}

// Overwrites the products of removed samples in one tile.
template <class Tile, class T = typename Tile::Element>
void remove_hits(const LossTask<T>& task, Range examples, Range sampled, const Tile& tile) {
  const HitLists& hits = task.hits;
  for (std::int64_t b = examples.begin; b < examples.end; ++b) {
    T* const row = tile.logits + (b - examples.begin) * kPanel<T>;
    for (std::int64_t e = hits.first(b); e < hits.first(b + 1); ++e) {
      const std::int64_t group = hits.group[e];
      if (group < 0) continue;
      const std::int64_t end = hits.begin[group + 1];
      // An item of a whole batch, or a class that was drawn often, has thousands of positions.
      for (std::int64_t i = first_from(hits.positions, hits.begin[group], end, sampled.begin); i < end; ++i) {
        const std::int64_t s = hits.positions[i] - sampled.begin;
        if (s >= sampled.size()) break;
        row[s / kPanel<T> * tile.logits_panel + s % kPanel<T>] = __builtin_bit_cast(T, kRemovedBits<T>);
      }
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

// The rows of a tile's samples: of the table, widened into `buffer` where they are not stored as T, and of dW.
template <class T>
struct SampleRows {
  const T* w[kMostTileSamples];
  T* dw[kMostTileSamples];

  SampleRows(const LossTask<T>& task, Range samples, const TeamSums<T>& sums, T* buffer) {
    for (std::int64_t i = 0; i < samples.size(); ++i) {
      const std::int64_t s = samples.begin + i;
      w[i] = row_of(task.weights, task.sampled[s], task.dim, buffer + i * task.dim);
      if (task.grad_weights == nullptr) continue;
      dw[i] =
          sums.weights != nullptr ? sums.weights + s * task.dim : task.grad_weights + task.sampled_row[s] * task.dim;
    }
  }
};
