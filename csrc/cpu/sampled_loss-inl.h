// The kernels of the fused sampled loss: what LossKernels in task.h names, phase by phase.
// Included like simd-inl.h, which see.

// Tile of the [B, S] plane. Per step of the tile three products run over W, W^T and dW (samples x D each) and X and dX
// (examples x D): samples is small enough for a D of a few hundred to keep the first three near the L2 cache while all
// examples pass by, examples large enough that adding a finished dW chunk to memory costs a few percent of computing
// it.
constexpr std::int64_t kTileExamples = 64;
constexpr std::int64_t kTileSamples = 256;

// How far ahead rows of the class table are requested: gathers are latency-bound, and the processor cannot foresee
// them.
constexpr std::int64_t kPrefetchRows = 4;

// The logit of a removed hit: finite, and so low that loss and gradient are exactly 0.
template <class T>
constexpr T kRemovedLogit = T{-1e30};

// The tiles of a problem, and the scratch that one thread needs for them. Problems smaller than a tile need less.
template <class T>
struct Tiling {
  std::int64_t examples, samples;                     // size of a tile
  std::int64_t x_panel, w_panel, w_transposed_panel;  // elements per panel of X (and of logits and G), W, W transposed
  std::int64_t w, w_transposed, logits, loss_lanes, end;  // where arrays begin in the scratch, in elements; X at 0

  explicit Tiling(const LossTask<T>& task) {
    examples = task.batch < kTileExamples ? task.batch : kTileExamples;
    samples = task.num_sampled < kTileSamples ? task.num_sampled : kTileSamples;
    x_panel = padded_rows(examples) * kPanel<T>;
    w_panel = padded_rows(samples) * kPanel<T>;
    w_transposed_panel = task.dim * kPanel<T>;
    w = panels<T>(task.dim) * x_panel;
    w_transposed = w + panels<T>(task.dim) * w_panel;
    logits = w_transposed + panels<T>(samples) * w_transposed_panel;
    loss_lanes = logits + panels<T>(samples) * x_panel;
    end = loss_lanes + examples * kLanes<T>;
  }
};

template <class T>
struct TileScratch {
  Tiling<T> tiling;
  T* x;             // panels of X
  T* w;             // panels of W
  T* w_transposed;  // panels of W transposed
  T* logits;        // panels of the tile: logits, then G in their place
  T* loss_lanes;    // [examples, kLanes]

  TileScratch(const LossTask<T>& task, T* memory)
      : tiling(task),
        x(memory),
        w(memory + tiling.w),
        w_transposed(memory + tiling.w_transposed),
        logits(memory + tiling.logits),
        loss_lanes(memory + tiling.loss_lanes) {}
};

template <class T>
std::int64_t scratch_elements(const LossTask<T>& task) {
  return Tiling<T>(task).end;
}

template <class T>
void prefetch_row(const T* row, std::int64_t dim) {
  constexpr std::int64_t kLineElements = 64 / sizeof(T);
  for (std::int64_t i = 0; i < dim; i += kLineElements) __builtin_prefetch(row + i);
}

template <class T>
T dot(const T* a, const T* b, std::int64_t n) {
  Vec<T> sum[4] = {};
  std::int64_t i = 0;
  for (; i + 4 * kLanes<T> <= n; i += 4 * kLanes<T>) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) sum[v] += load(a + i + v * kLanes<T>) * load(b + i + v * kLanes<T>);
  }
  for (; i + kLanes<T> <= n; i += kLanes<T>) sum[0] += load(a + i) * load(b + i);
  T total = sum_of_lanes<T>((sum[0] + sum[1]) + (sum[2] + sum[3]));
  for (; i < n; ++i) total += a[i] * b[i];
  return total;
}

// to = factor * from, or to += factor * from.
template <class T, Write kWrite>
void scaled_row(T* to, T factor, const T* from, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) {
    const Vec<T> value = load(from + i) * factor;
    store(to + i, kWrite == Write::kSet ? value : load(to + i) + value);
  }
  for (; i < n; ++i) to[i] = (kWrite == Write::kSet ? T{0} : to[i]) + factor * from[i];
}

template <class T>
T natural_log(T x) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return __builtin_logf(x);
  } else {
    return __builtin_log(x);
  }
}

template <class T>
void true_classes(const LossTask<T>& task, Range examples) {
  const std::int64_t t_count = task.num_true;
  const std::int64_t last = examples.end * t_count;
  const T target = t_count > 0 ? T{1} / static_cast<T>(t_count) : T{0};
  for (std::int64_t b = examples.begin; b < examples.end; ++b) {
    const T* x = task.inputs + b * task.inputs_stride;
    T* dx = task.grad_inputs != nullptr ? task.grad_inputs + b * task.dim : nullptr;
    const T upstream = task.grad_loss != nullptr ? task.grad_loss[b] : T{1};
    double loss = 0.0;
    if (dx != nullptr && t_count == 0) {
      for (std::int64_t d = 0; d < task.dim; ++d) dx[d] = T{0};
    }
    for (std::int64_t t = 0; t < t_count; ++t) {
      const std::int64_t at = b * t_count + t;
      if (at + kPrefetchRows < last) prefetch_row(task.weights.row(task.labels[at + kPrefetchRows]), task.dim);
      const T* w = task.weights.row(task.labels[at]);
      const T u = dot(x, w, task.dim) + *task.biases.row(task.labels[at]) - natural_log(task.true_count[at]);
      const auto logistic = math::logistic<T>(u);
      // softplus(u) - u / T and sigmoid(u) - 1 / T, in the order that loses nothing to cancellation when T = 1.
      loss += ((u < T{0} ? T{0} : u) - u * target) + logistic.log1p_e;
      const T slope = u > T{0} ? (T{1} - target) - logistic.complement : logistic.sigmoid - target;
      const T g = slope * upstream;
      task.true_grad[at] = g;
      if (dx != nullptr) {
        t == 0 ? scaled_row<T, Write::kSet>(dx, g, w, task.dim) : scaled_row<T, Write::kAdd>(dx, g, w, task.dim);
      }
    }
    task.loss_sum[b] = loss;
  }
}

template <class T>
void sampled_offsets(const LossTask<T>& task, Range sampled) {
  for (std::int64_t s = sampled.begin; s < sampled.end; ++s) {
    task.sampled_offset[s] = *task.biases.row(task.sampled[s]) - natural_log(task.sampled_count[s]);
  }
}

template <class T>
void start_rows(const LossTask<T>& task, Range rows) {
  const std::int64_t num_labels = task.batch * task.num_true;
  for (std::int64_t r = rows.begin; r < rows.end; ++r) {
    T* dw = task.grad_weights != nullptr ? task.grad_weights + r * task.dim : nullptr;
    T bias_sum = T{0};
    const std::int64_t begin = task.row_offsets[r];
    std::int64_t i = begin;
    for (; i < task.row_offsets[r + 1] && task.row_entries[i] < num_labels; ++i) {
      const std::int64_t label = task.row_entries[i];
      const T g = task.true_grad[label];
      bias_sum += g;
      if (dw == nullptr) continue;
      const T* x = task.inputs + label / task.num_true * task.inputs_stride;
      i == begin ? scaled_row<T, Write::kSet>(dw, g, x, task.dim) : scaled_row<T, Write::kAdd>(dw, g, x, task.dim);
    }
    if (dw != nullptr && i == begin) {
      for (std::int64_t d = 0; d < task.dim; ++d) dw[d] = T{0};
    }
    if (task.grad_biases != nullptr) task.grad_biases[r] = bias_sum;
  }
}

// Overwrites the logits of accidental hits in one tile.
template <class T>
void remove_hits(const LossTask<T>& task, Range examples, Range sampled, const TileScratch<T>& tile) {
  for (std::int64_t b = examples.begin; b < examples.end; ++b) {
    for (std::int64_t i = task.hits.begin[b]; i < task.hits.begin[b + 1]; ++i) {
      const std::int64_t s = task.hits.positions[i] - sampled.begin;
      if (s < 0 || s >= sampled.size()) continue;
      T* row = tile.logits + s / kPanel<T> * tile.tiling.x_panel + (b - examples.begin) * kPanel<T>;
      row[s % kPanel<T>] = kRemovedLogit<T>;
    }
  }
}

// Turns a tile of logits into its losses, added to loss_sum, and into G = upstream * sigmoid, left in place of the
// logits and added up over the examples into bias_sum.
template <class T, bool kLoss, bool kGrad>
void apply_logistic(const LossTask<T>& task, Range examples, std::int64_t num_samples, const TileScratch<T>& tile,
                    T* bias_sum) {
  for (std::int64_t i = 0; kLoss && i < examples.size() * kLanes<T>; ++i) tile.loss_lanes[i] = T{0};
  for (std::int64_t s = 0; s < num_samples; s += kLanes<T>) {
    const std::int64_t present = num_samples - s;
    T* column = tile.logits + s / kPanel<T> * tile.tiling.x_panel + s % kPanel<T>;
    const VecBits<T> in_tile = first_lanes<T>(present < kLanes<T> ? present : kLanes<T>);
    Vec<T> column_sum{};
    for (std::int64_t b = 0; b < examples.size(); ++b, column += kPanel<T>) {
      // Lanes past the last sample are the product of padding with X, which is not 0 where X is not finite.
      const Vec<T> logit = in_tile ? load(column) : broadcast(kRemovedLogit<T>);
      const auto logistic = math::logistic<T, Vec<T>, VecBits<T>>(logit);
      if constexpr (kLoss) {
        T* lanes = tile.loss_lanes + b * kLanes<T>;
        store(lanes, load(lanes) + logistic.softplus);
      }
      if constexpr (kGrad) {
        Vec<T> g = logistic.sigmoid;
        if (task.grad_loss != nullptr) {
          // Removed hits stay 0 when the factor is not finite.
          g = logit == kRemovedLogit<T> ? Vec<T>{} : g * task.grad_loss[examples.begin + b];
        }
        store(column, g);
        column_sum += g;
      }
    }
    if (kGrad && bias_sum != nullptr) {
      T lanes[kLanes<T>];
      store(lanes, column_sum);
      for (std::int64_t i = 0; i < kLanes<T> && i < present; ++i) bias_sum[s + i] += lanes[i];
    }
  }
  for (std::int64_t b = 0; kLoss && b < examples.size(); ++b) {
    task.loss_sum[examples.begin + b] += static_cast<double>(sum_of_lanes<T>(load(tile.loss_lanes + b * kLanes<T>)));
  }
}

// One tile: logits, loss, G, and the gradients of its examples and samples. W is packed, `w_grads` are its rows of dW.
template <class T>
void sampled_tile(const LossTask<T>& task, Range examples, Range sampled, const TileScratch<T>& tile, T* bias_sum,
                  T* const* w_grads) {
  const T* x_rows[kTileExamples];
  T* logit_rows[kTileExamples];
  T* dx_rows[kTileExamples];
  for (std::int64_t b = 0; b < examples.size(); ++b) {
    x_rows[b] = task.inputs + (examples.begin + b) * task.inputs_stride;
    logit_rows[b] = tile.logits + b * kPanel<T>;
    if (task.grad_inputs != nullptr) dx_rows[b] = task.grad_inputs + (examples.begin + b) * task.dim;
  }
  pack_rows(x_rows, examples.size(), task.dim, tile.x, tile.tiling.x_panel);
  const std::int64_t tile_panel = tile.tiling.x_panel;

  T offset[kTileSamples] = {};
  for (std::int64_t s = 0; s < sampled.size(); ++s) offset[s] = task.sampled_offset[sampled.begin + s];

  // logits = X W^T + offset
  multiply<T, ByRows<T>, Write::kSet>({.rows = examples.size(),
                                       .cols = sampled.size(),
                                       .depth = task.dim,
                                       .a = tile.x,
                                       .a_panel_stride = tile_panel,
                                       .a_panel_depth = kPanel<T>,
                                       .b = tile.w_transposed,
                                       .b_panel_stride = tile.tiling.w_transposed_panel,
                                       .c = logit_rows,
                                       .c_panel_stride = tile_panel,
                                       .addend = offset});

  if (task.hits.begin != nullptr) remove_hits(task, examples, sampled, tile);
  const bool wants_grad = task.grad_inputs != nullptr || task.wants_rows();
  if (task.loss != nullptr && wants_grad) {
    apply_logistic<T, true, true>(task, examples, sampled.size(), tile, bias_sum);
  } else if (wants_grad) {
    apply_logistic<T, false, true>(task, examples, sampled.size(), tile, bias_sum);
  } else {
    apply_logistic<T, true, false>(task, examples, sampled.size(), tile, bias_sum);
  }

  // dX += G W
  if (task.grad_inputs != nullptr) {
    multiply<T, ByRows<T>, Write::kAdd>({.rows = examples.size(),
                                         .cols = task.dim,
                                         .depth = sampled.size(),
                                         .a = tile.logits,
                                         .a_panel_stride = tile_panel,
                                         .a_panel_depth = kPanel<T>,
                                         .b = tile.w,
                                         .b_panel_stride = tile.tiling.w_panel,
                                         .c = dx_rows,
                                         .c_panel_stride = kPanel<T>,
                                         .addend = nullptr});
  }

  // dW += G^T X, a panel of G at a time: a chunk of its columns must not reach into the next
  for (std::int64_t s = 0; s < sampled.size() && w_grads != nullptr; s += kPanel<T>) {
    const std::int64_t left = sampled.size() - s;
    multiply<T, ByColumns<T>, Write::kAdd>({.rows = left < kPanel<T> ? left : kPanel<T>,
                                            .cols = task.dim,
                                            .depth = examples.size(),
                                            .a = tile.logits + (s / kPanel<T>)*tile_panel,
                                            .a_panel_stride = tile_panel,
                                            .a_panel_depth = examples.size(),
                                            .b = tile.x,
                                            .b_panel_stride = tile_panel,
                                            .c = w_grads + s,
                                            .c_panel_stride = kPanel<T>,
                                            .addend = nullptr});
  }
}

template <class T>
void sampled_block(const LossTask<T>& task, Range examples, Range sampled, const SampledRowSink<T>& sink, T* scratch) {
  const TileScratch<T> tile(task, scratch);
  for (std::int64_t s = sampled.begin; s < sampled.end; s += kTileSamples) {
    const Range samples{s, s + kTileSamples < sampled.end ? s + kTileSamples : sampled.end};
    const T* w_rows[kTileSamples];
    T* w_grads[kTileSamples];
    for (std::int64_t i = 0; i < samples.size(); ++i) {
      w_rows[i] = task.weights.row(task.sampled[s + i]);
      if (task.grad_weights == nullptr) continue;
      w_grads[i] = sink.weights != nullptr ? sink.weights + (s + i) * task.dim
                                           : task.grad_weights + task.sampled_row[s + i] * task.dim;
    }
    pack_transposed(w_rows, samples.size(), task.dim, tile.w_transposed);
    if (task.grad_inputs != nullptr) {
      pack_rows(w_rows, samples.size(), task.dim, tile.w, tile.tiling.w_panel);
    }
    for (std::int64_t b = examples.begin; b < examples.end; b += kTileExamples) {
      const Range rows{b, b + kTileExamples < examples.end ? b + kTileExamples : examples.end};
      sampled_tile(task, rows, samples, tile, sink.bias != nullptr ? sink.bias + s : nullptr,
                   task.grad_weights != nullptr ? w_grads : nullptr);
    }
  }
}

template <class T>
void finish_rows(const LossTask<T>& task, Range rows) {
  const std::int64_t num_labels = task.batch * task.num_true;
  for (std::int64_t r = rows.begin; r < rows.end; ++r) {
    for (std::int64_t i = task.row_offsets[r]; i < task.row_offsets[r + 1]; ++i) {
      const std::int64_t s = task.row_entries[i] - num_labels;
      if (s < 0) continue;
      for (std::int64_t copy = 0; copy < task.copies && task.grad_biases != nullptr; ++copy) {
        task.grad_biases[r] += task.bias_copies[copy * task.num_sampled + s];
      }
      for (std::int64_t copy = 0; copy < task.weight_copy_count && task.grad_weights != nullptr; ++copy) {
        const T* from = task.weight_copies + (copy * task.num_sampled + s) * task.dim;
        scaled_row<T, Write::kAdd>(task.grad_weights + r * task.dim, T{1}, from, task.dim);
      }
    }
  }
}

template <class T>
constexpr LossKernels<T> kLossKernels = {
    .true_classes = true_classes<T>,
    .sampled_offsets = sampled_offsets<T>,
    .start_rows = start_rows<T>,
    .sampled_block = sampled_block<T>,
    .finish_rows = finish_rows<T>,
    .scratch_elements = scratch_elements<T>,
};
