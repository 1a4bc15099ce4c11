// Fused epilogue of the [B, S] GEMM, tile by tile (TileKernels in loss_kernels.h): hit masking, loss, and G =
// dL/dlogit, in the precision of the arrays. `Tile` supplies the GEMMs: PanelTile (panel_tile-inl.h) in full precision,
// SplitTile (split_tile-inl.h) from bfloat16 parts. Compiled once per instruction set; the rules are in simd-inl.h.

// The logit of a removed hit: finite, and so low that loss and gradient are exactly 0. No offset is added to it.
template <class T>
constexpr T kRemovedLogit = T{-1e30};

// Overwrites the products of accidental hits in one tile.
template <class Tile, class T = typename Tile::Element>
void remove_hits(const LossTask<T>& task, Range examples, Range sampled, const Tile& tile) {
  for (std::int64_t b = examples.begin; b < examples.end; ++b) {
    for (std::int64_t i = task.hits.begin[b]; i < task.hits.begin[b + 1]; ++i) {
      const std::int64_t s = task.hits.positions[i] - sampled.begin;
      if (s < 0 || s >= sampled.size()) continue;
      T* row = tile.logits + s / kPanel<T> * tile.logits_panel + (b - examples.begin) * kPanel<T>;
      row[s % kPanel<T>] = kRemovedLogit<T>;
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
