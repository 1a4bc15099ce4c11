// Fused epilogue of the [B, S] GEMM, tile by tile (TileKernels in loss_task.h): hit masking, loss, and G = dL/dlogit,
// in the precision of the arrays. `Tile` supplies the GEMMs: PanelTile (panel_tile-inl.h) in full precision, SplitTile
// (split_tile-inl.h) from bfloat16 parts. Compiled once per instruction set; the rules are in simd-inl.h.

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

constexpr std::int64_t kSummed = 32;

// Epilogue of the GEMM X W^T: adds the tile's losses to loss_sum, overwrites the products with
// G = upstream * sigmoid(product + offset), and adds G, summed over the examples, to bias_sum.
template <bool kLoss, bool kGrad, class Tile, class T = typename Tile::Element>
void apply_logistic(const LossTask<T>& task, Range examples, Range sampled, const Tile& tile, T* bias_sum) {
  for (std::int64_t i = 0; kLoss && i < examples.size() * kLanes<T>; ++i) tile.loss_lanes[i] = T{0};
  for (std::int64_t s = 0; s < sampled.size(); s += kLanes<T>) {
    const std::int64_t left = sampled.size() - s;
    const std::int64_t present = left < kLanes<T> ? left : kLanes<T>;
    T* column = tile.logits + s / kPanel<T> * tile.logits_panel + s % kPanel<T>;
    const VecBits<T> in_tile = first_lanes<T>(present);
    const Vec<T> offset = load_first(task.sampled_offset + sampled.begin + s, present);
    Vec<T> column_sum{};
    Vec<T> part_sum{};  // of up to kSummed examples: long sums of float32 lose digits
    for (std::int64_t b = 0; b < examples.size(); ++b, column += kPanel<T>) {
      if (kGrad && b % kSummed == 0) {
        column_sum += part_sum;
        part_sum = Vec<T>{};
      }
      // Lanes past the last sample are the product of padding with X, which is not 0 where X is not finite.
      const Vec<T> product = load(column);
      const VecBits<T> kept = in_tile & (product != kRemovedLogit<T>);
      const Vec<T> logit = kept ? product + offset : broadcast(kRemovedLogit<T>);
      const auto logistic = math::logistic<T, Vec<T>, VecBits<T>>(logit);
      if constexpr (kLoss) {
        T* lanes = tile.loss_lanes + b * kLanes<T>;
        store(lanes, load(lanes) + logistic.softplus);
      }
      if constexpr (kGrad) {
        Vec<T> g = logistic.sigmoid;
        if (task.sampled_factor != nullptr) {
          // Removed hits stay 0 when the factor is not finite.
          g = kept ? g * task.sampled_factor[task.row_of_batch(examples.begin + b)] : Vec<T>{};
        }
        store(column, g);
        part_sum += g;
      }
    }
    if (kGrad && bias_sum != nullptr) {
      T lanes[kLanes<T>];
      store(lanes, column_sum + part_sum);
      for (std::int64_t i = 0; i < present; ++i) bias_sum[sampled.begin + s + i] += lanes[i];
    }
  }
  for (std::int64_t b = 0; kLoss && b < examples.size(); ++b) {
    T sum = sum_of_lanes<T>(load(tile.loss_lanes + b * kLanes<T>));
    if (!task.negative_weight.is_one()) sum *= task.negative_weight.of(task.row_of_batch(examples.begin + b));
    task.loss_sum[examples.begin + b] += static_cast<double>(sum);
  }
}

// One tile whose samples are packed: logits, loss, G, and the gradients of its examples and samples.
// `dw_rows`: the rows of its samples' gradients, or null.
template <class Tile, class T = typename Tile::Element>
void sampled_tile(const LossTask<T>& task, Range examples, Range sampled, Tile& tile, T* bias_sum, T* const* dw_rows) {
  const T* x_rows[kMostTileExamples];
  T* dx_rows[kMostTileExamples];
  for (std::int64_t b = 0; b < examples.size(); ++b) {
    x_rows[b] = task.input(examples.begin + b);
    if (task.grad_inputs != nullptr) dx_rows[b] = task.grad_input(examples.begin + b);
  }
  tile.enter_examples(x_rows, examples.size());
  tile.multiply_logits();
  if (task.hits.begin != nullptr) remove_hits(task, examples, sampled, tile);
  if (!task.wants_gradients()) {
    apply_logistic<true, false>(task, examples, sampled, tile, bias_sum);
    return;
  }
  if (task.loss != nullptr) {
    apply_logistic<true, true>(task, examples, sampled, tile, bias_sum);
  } else {
    apply_logistic<false, true>(task, examples, sampled, tile, bias_sum);
  }
  tile.enter_grad();
  if (task.grad_inputs != nullptr) tile.add_grad_inputs(dx_rows);
  if (dw_rows != nullptr) tile.add_grad_weights(dw_rows);
}

template <class Tile, class T = typename Tile::Element>
void sampled_block(const LossTask<T>& task, Range examples, Range sampled, const SampledRowSink<T>& sink, T* scratch) {
  Tile tile(task, scratch);
  T* const widened = scratch + tile.scratch_elements;  // rows of the table that are not stored as T
  const std::int64_t step = even_part(examples.size(), tile.examples);
  for (std::int64_t s = sampled.begin; s < sampled.end; s += tile.samples) {
    const Range samples{s, s + tile.samples < sampled.end ? s + tile.samples : sampled.end};
    const T* w_rows[kMostTileSamples];
    T* dw_rows[kMostTileSamples];
    for (std::int64_t i = 0; i < samples.size(); ++i) {
      w_rows[i] = row_of(task.weights, task.sampled[s + i], task.dim, widened + i * task.dim);
      if (task.grad_weights == nullptr) continue;
      dw_rows[i] = sink.weights != nullptr ? sink.weights + (s + i) * task.dim
                                           : task.grad_weights + task.sampled_row[s + i] * task.dim;
    }
    tile.enter_samples(w_rows, samples.size());
    for (std::int64_t b = examples.begin; b < examples.end; b += step) {
      if (task.interruption->requested()) return;
      const Range rows{b, b + step < examples.end ? b + step : examples.end};
      sampled_tile(task, rows, samples, tile, sink.bias, task.grad_weights != nullptr ? dw_rows : nullptr);
    }
    if (task.grad_weights != nullptr) tile.leave_samples(dw_rows);
  }
}

template <class Tile, class T = typename Tile::Element>
std::int64_t block_scratch_elements(const LossTask<T>& task) {
  const Tile tile(task, nullptr);
  return tile.scratch_elements + (is_stored_as<T>(task.weights.dtype) ? 0 : tile.samples * task.dim);
}

template <class Tile>
constexpr TileKernels<typename Tile::Element> kTileKernels = {
    .sampled_block = sampled_block<Tile>,
    .scratch_elements = block_scratch_elements<Tile>,
};
