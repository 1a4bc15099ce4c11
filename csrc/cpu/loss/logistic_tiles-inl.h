// The logistic losses in the [B, S] plane, one pass: the GEMM X W^T with an epilogue that leaves G = dL/dlogit in place
// of the products, then the GEMMs dX += G W and dW += G^T X. Compiled once per instruction set; the rules are in
// simd-inl.h.

// Adds the tile's losses to loss_sum, overwrites the products with G = upstream * sigmoid(product + offset), and adds
// G, summed over the examples, to bias_sum.
template <bool kLoss, bool kGrad, class Tile, class T = typename Tile::Element>
void apply_logistic(const LossTask<T>& task, Range examples, Range sampled, const Tile& tile, T* bias_sum) {
  constexpr T kLogitOfNone = -1e30;  // finite, and so low that loss and gradient are exactly 0
  for (std::int64_t i = 0; kLoss && i < examples.size() * kLanes<T>; ++i) tile.loss_lanes[i] = T{0};
  for (std::int64_t s = 0; s < sampled.size(); s += kLanes<T>) {
    const std::int64_t left = sampled.size() - s;
    const std::int64_t present = left < kLanes<T> ? left : kLanes<T>;
    T* column = tile.logits + s / kPanel<T> * tile.logits_panel + s % kPanel<T>;
    const VecBits<T> in_tile = first_lanes<T>(present);
    const Vec<T> offset = load_present(task.sampled_offset + sampled.begin + s, present);
    ColumnSum<T> sum;
    for (std::int64_t b = 0; b < examples.size(); ++b, column += kPanel<T>) {
      if constexpr (kGrad) sum.start(b);
      // Lanes past the last sample are the product of padding with X, which is not 0 where X is not finite.
      const Vec<T> product = load(column);
      const VecBits<T> kept = kept_of<T>(product, in_tile);
      const Vec<T> logit = kept ? product + offset : broadcast(kLogitOfNone);
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
        sum.add(g);
      }
    }
    if (kGrad && bias_sum != nullptr) sum.add_to(bias_sum + sampled.begin + s, present);
  }
  for (std::int64_t b = 0; kLoss && b < examples.size(); ++b) {
    double& loss_sum = task.loss_sum[examples.begin + b];
    const auto sum = static_cast<double>(sum_of_lanes<T>(load(tile.loss_lanes + b * kLanes<T>)));
    if (task.negative_weight.is_one()) {
      loss_sum += sum;
    } else if (sum != 0.0) {  // else all may be removed: nothing, even if the weight is not finite
      // Explicit, so that the compiler fuses the two in every instance of this template or in none.
      const auto weight = static_cast<double>(task.negative_weight.of(task.row_of_batch(examples.begin + b)));
      loss_sum = __builtin_fma(sum, weight, loss_sum);
    }
  }
}

// One tile whose samples are packed: logits, loss, G, and the gradients of its examples and samples.
template <class Tile, class T = typename Tile::Element>
void logistic_tile(const LossTask<T>& task, Range examples, Range sampled, Tile& tile, T* bias_sum, T* const* dw_rows) {
  const ExampleRows<T> rows(task, examples);
  tile.enter_examples(rows.x, examples.size());
  tile.multiply_logits();
  remove_samples(task, examples, sampled, tile);
  if (!task.wants_gradients()) {
    apply_logistic<true, false>(task, examples, sampled, tile, bias_sum);
    return;
  }
  if (task.loss != nullptr) {
    apply_logistic<true, true>(task, examples, sampled, tile, bias_sum);
  } else {
    apply_logistic<false, true>(task, examples, sampled, tile, bias_sum);
  }
  if (task.group.grad != nullptr) keep_grad(task, examples, sampled, tile);
  tile.enter_grad();
  if (task.grad_inputs != nullptr) tile.add_grad_inputs(rows.dx);
  if (task.grad_weights != nullptr) tile.add_grad_weights(dw_rows);
}

template <class Tile, class T = typename Tile::Element>
void logistic_block(const LossTask<T>& task, Range examples, Range sampled, const TeamSums<T>& sums, T* scratch) {
  Tile tile(task.plane(), scratch);
  const std::int64_t step = even_part(examples.size(), tile.examples);
  for (std::int64_t s = sampled.begin; s < sampled.end; s += tile.samples) {
    const Range samples{s, s + tile.samples < sampled.end ? s + tile.samples : sampled.end};
    const SampleRows<T> rows(task, samples, sums, scratch + tile.scratch_elements);
    tile.enter_samples(rows.w, samples.size(), Packed::kForBoth);
    for (std::int64_t b = examples.begin; b < examples.end; b += step) {
      if (task.interruption->requested()) return;
      const Range part{b, b + step < examples.end ? b + step : examples.end};
      logistic_tile(task, part, samples, tile, sums.bias, rows.dw);
    }
    if (task.grad_weights != nullptr) tile.leave_samples(rows.dw);
  }
}
