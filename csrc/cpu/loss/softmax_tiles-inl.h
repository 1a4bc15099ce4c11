// The softmax losses in the [B, S] plane, two passes over a strip of examples, since G needs the normaliser of all
// samples:
//
//   1. logits_of_block: the GEMM X W^T; its epilogue leaves exp(v - m), with m the example's maximum so far, and adds
//   it
//      up. The exponentials stay in the strip: 12 bytes of traffic for each, where the GEMM again takes 2 D operations.
//   2. gradients_of_block: the epilogue scales them to G; then the GEMMs dX += G W and dW += G^T X.
//
// Without a strip, for samples so many that it would hold too few examples, the second pass computes the logits again.
// Compiled once per instruction set; the rules are in simd-inl.h.

template <class T>
[[gnu::always_inline]] inline Vec<T> larger(Vec<T> a, Vec<T> b) {
  return a > b ? a : b;
}

template <class T, int kDistance, int... I>
[[gnu::always_inline]] inline Vec<T> larger_of_swapped(Vec<T> value, std::integer_sequence<int, I...>) {
  return larger<T>(value, __builtin_shufflevector(value, value, (I ^ kDistance)...));
}

template <class T, int kDistance = kLanes<T> / 2>
[[gnu::always_inline]] inline T largest_of_lanes(Vec<T> value) {
  if constexpr (kDistance == 0) {
    return value[0];
  } else {
    using Lanes = std::make_integer_sequence<int, kLanes<T>>;
    return largest_of_lanes<T, kDistance / 2>(larger_of_swapped<T, kDistance>(value, Lanes{}));
  }
}

// Calls use(column, s, present) for the vectors of a tile's columns; `column` is that of its first example.
template <class Tile, class Use, class T = typename Tile::Element>
[[gnu::always_inline]] inline void for_each_column(const Tile& tile, std::int64_t samples, const Use& use) {
  for (std::int64_t s = 0; s < samples; s += kLanes<T>) {
    const std::int64_t left = samples - s;
    use(tile.logits + s / kPanel<T> * tile.logits_panel + s % kPanel<T>, s, left < kLanes<T> ? left : kLanes<T>);
  }
}

// v in place of the products; -inf where a class is removed or there is none.
template <class T>
[[gnu::always_inline]] inline Vec<T> logit_of(Vec<T> product, Vec<T> offset, VecBits<T> in_tile) {
  return kept_of<T>(product, in_tile) ? product + offset : broadcast(static_cast<T>(-__builtin_inf()));
}

// exp(v - m). Removed classes give exactly 0: m is finite, since maxima start from math::kLeastLogit.
template <class T>
[[gnu::always_inline]] inline Vec<T> exp_below(Vec<T> logit, Vec<T> maximum) {
  return math::exp_nonpositive<T, Vec<T>, VecBits<T>>(logit - maximum);
}

// A number for each of a tile's examples, whole vectors of them.
template <class T>
struct PerExample {
  alignas(kVectorBytes) T of[kMostTileExamples];

  // of[b] = make(b), a vector at a time. Reads up to a vector beyond `count`.
  template <class Make>
  [[gnu::always_inline]] void set(std::int64_t count, const Make& make) {
    for (std::int64_t b = 0; b < count; b += kLanes<T>) store(of + b, make(b));
  }
};

// Logits of a tile, in place of the products; then their exponentials, if `maxima`, where the maximum that each
// example's are relative to is kept, is not null. Updates the examples' maxima and sums.
template <class Tile, class T = typename Tile::Element>
void add_exponentials(const LossTask<T>& task, Range examples, Range sampled, const Tile& tile, T* maxima) {
  for (std::int64_t b = 0; b < examples.size(); ++b) {
    store(tile.loss_lanes + b * kLanes<T>, broadcast(math::kLeastLogit<T>));
  }
  for_each_column(tile, sampled.size(), [&](T* column, std::int64_t s, std::int64_t present) {
    const VecBits<T> in_tile = first_lanes<T>(present);
    const Vec<T> offset = load_present(task.sampled_offset + sampled.begin + s, present);
    for (std::int64_t b = 0; b < examples.size(); ++b, column += kPanel<T>) {
      const Vec<T> logit = logit_of<T>(load(column), offset, in_tile);
      store(column, logit);
      T* lanes = tile.loss_lanes + b * kLanes<T>;
      store(lanes, larger<T>(logit, load(lanes)));
    }
  });
  PerExample<T> before, maximum, rescaled;
  for (std::int64_t b = 0; b < examples.size(); ++b) {
    T* lanes = tile.loss_lanes + b * kLanes<T>;
    const T own = largest_of_lanes<T>(load(lanes));
    before.of[b] = task.softmax_max[examples.begin + b];
    maximum.of[b] = own > before.of[b] ? own : before.of[b];
    store(lanes, Vec<T>{});
  }
  rescaled.set(examples.size(),
               [&](std::int64_t b) { return exp_below<T>(load(before.of + b), load(maximum.of + b)); });
  for_each_column(tile, sampled.size(), [&](T* column, std::int64_t, std::int64_t) {
    for (std::int64_t b = 0; b < examples.size(); ++b, column += kPanel<T>) {
      const Vec<T> e = exp_below<T>(load(column), broadcast(maximum.of[b]));
      if (maxima != nullptr) store(column, e);
      T* lanes = tile.loss_lanes + b * kLanes<T>;
      store(lanes, load(lanes) + e);
    }
  });
  for (std::int64_t b = 0; b < examples.size(); ++b) {
    double& sum = task.softmax_sum[examples.begin + b];
    const auto own = static_cast<double>(sum_of_lanes<T>(load(tile.loss_lanes + b * kLanes<T>)));
    sum = __builtin_fma(sum, static_cast<double>(rescaled.of[b]), own);  // explicit: the same in all instances
    task.softmax_max[examples.begin + b] = maximum.of[b];
    if (maxima != nullptr) maxima[b] = maximum.of[b];
  }
}

// G in place of a tile's exponentials or, with kLogits, of its products, and adds it, summed over the examples, to
// bias_sum.
template <bool kLogits, class Tile, class T = typename Tile::Element>
void scale_exponentials(const LossTask<T>& task, Range examples, Range sampled, const Tile& tile, const T* maxima,
                        T* bias_sum) {
  PerExample<T> factor, maximum;
  for (std::int64_t b = 0; b < examples.size(); ++b) {
    factor.of[b] = task.softmax_factor[examples.begin + b];
    maximum.of[b] = task.softmax_max[examples.begin + b];
  }
  if constexpr (!kLogits) {
    factor.set(examples.size(), [&](std::int64_t b) {
      return load(factor.of + b) * exp_below<T>(load(maxima + b), load(maximum.of + b));
    });
  }
  for_each_column(tile, sampled.size(), [&](T* column, std::int64_t s, std::int64_t present) {
    const VecBits<T> in_tile = first_lanes<T>(present);
    const Vec<T> offset = load_present(task.sampled_offset + sampled.begin + s, present);
    ColumnSum<T> sum;
    for (std::int64_t b = 0; b < examples.size(); ++b, column += kPanel<T>) {
      sum.start(b);
      Vec<T> e = load(column);
      if constexpr (kLogits) {
        e = exp_below<T>(logit_of<T>(e, offset, in_tile), broadcast(maximum.of[b]));
      }
      // Removed hits stay 0 when the factor is not finite.
      const Vec<T> g = e != T{0} ? e * factor.of[b] : Vec<T>{};
      store(column, g);
      sum.add(g);
    }
    if (bias_sum != nullptr) sum.add_to(bias_sum + sampled.begin + s, present);
  });
}

template <class Tile, class T = typename Tile::Element>
void logits_of_block(const LossTask<T>& task, Range examples, Range sampled, const Strip<T>& strip, std::int64_t slot,
                     T* scratch) {
  Tile tile(task.plane(), scratch);
  const std::int64_t step = even_part(examples.size(), tile.examples);
  for (std::int64_t s = sampled.begin; s < sampled.end; s += tile.samples, ++slot) {
    const Range samples{s, s + tile.samples < sampled.end ? s + tile.samples : sampled.end};
    const SampleRows<T> rows(task, samples, {}, scratch + tile.scratch_elements);
    tile.enter_samples(rows.w, samples.size(), Packed::kForLogits);
    for (std::int64_t b = examples.begin, i = 0; b < examples.end; b += step, ++i) {
      if (task.interruption->requested()) return;
      const Range part{b, b + step < examples.end ? b + step : examples.end};
      tile.use_examples(strip.x + i * tile.x_elements, part.size());
      if (slot == 0) tile.enter_examples(ExampleRows<T>(task, part).x, part.size());
      const std::int64_t place = slot * strip.example_tiles + i;
      if (strip.exps != nullptr) tile.logits = strip.exps + place * tile.logits_elements;
      tile.multiply_logits();
      remove_samples(task, part, samples, tile);
      T* const maxima = strip.exps != nullptr ? strip.maxima + place * tile.examples : nullptr;
      add_exponentials(task, part, samples, tile, maxima);
    }
  }
}

template <class Tile, class T = typename Tile::Element>
void gradients_of_block(const LossTask<T>& task, Range examples, Range sampled, const Strip<T>& strip,
                        std::int64_t slot, const TeamSums<T>& sums, T* scratch) {
  Tile tile(task.plane(), scratch);
  const std::int64_t step = even_part(examples.size(), tile.examples);
  const bool again = strip.exps == nullptr;
  for (std::int64_t s = sampled.begin; s < sampled.end; s += tile.samples, ++slot) {
    const Range samples{s, s + tile.samples < sampled.end ? s + tile.samples : sampled.end};
    const SampleRows<T> rows(task, samples, sums, scratch + tile.scratch_elements);
    tile.enter_samples(rows.w, samples.size(), again ? Packed::kForBoth : Packed::kForGradients);
    for (std::int64_t b = examples.begin, i = 0; b < examples.end; b += step, ++i) {
      if (task.interruption->requested()) return;
      const Range part{b, b + step < examples.end ? b + step : examples.end};
      const ExampleRows<T> example_rows(task, part);
      tile.use_examples(strip.x + i * tile.x_elements, part.size());
      if (again) {
        tile.multiply_logits();
        remove_samples(task, part, samples, tile);
        scale_exponentials<true, Tile, T>(task, part, samples, tile, nullptr, sums.bias);
      } else {
        const std::int64_t place = slot * strip.example_tiles + i;
        tile.logits = strip.exps + place * tile.logits_elements;
        scale_exponentials<false, Tile, T>(task, part, samples, tile, strip.maxima + place * tile.examples, sums.bias);
      }
      if (task.group.grad != nullptr) keep_grad(task, part, samples, tile);
      tile.enter_grad();
      if (task.grad_inputs != nullptr) tile.add_grad_inputs(example_rows.dx);
      if (task.grad_weights != nullptr) tile.add_grad_weights(rows.dw);
    }
    if (task.grad_weights != nullptr) tile.leave_samples(rows.dw);
  }
}
