// One step of skip-gram training: the losses of a block and the update of all rows in it. Compiled once per instruction
// set; the rules are in simd-inl.h.
//
//   X [L, D] vectors of the centres   C [L + 2 W, D] outputs of the contexts   N [S, D] outputs of the negatives
//
// The negatives are three small products, as in the other losses: X N^T, then G, dX = G N and dN = G^T X. Pairs of
// centre and context are a band: centre i has context i + o in slot o of 2 W + 1, of which W is itself. All of this is
// read from copies, which stay in the L1 and L2 cache, so that each gradient is at the values that the block has found
// and goes to its row of the table at once. G and the band hold -rate dloss/dlogit.
//
// For one position at D = 100, S = 32, W = 5 and vectors of 16 floats: 650 multiply-adds of vectors in the products,
// 170 in the band (47 for logits and for dX each, where windows reach 3 on average, 77 and zeros among them for dC).

template <class Products>
class SkipGramStep {
 public:
  SkipGramStep(const SkipGramTask& task, const SkipGramBlock& block, float* memory)
      : task_(task), block_(block), kernels_(skip_gram_part_table<Products>(task.dim)) {
    const auto padded = [](std::int64_t floats) { return (floats + 15) / 16 * 16; };
    const auto take = [&](std::int64_t floats) {
      used_ += padded(floats);
      return memory == nullptr ? nullptr : memory + used_ - padded(floats);
    };
    width_ = kernels_.width;
    words_ = Products::words(width_);
    positions_ = padded(task.positions);
    contexts_ = task.positions + 2 * task.window;
    parts_ = (task.dim + width_ - 1) / width_;
    const std::int64_t samples = task.samples, slots = padded(2 * task.window + 1);
    first_.x = take(parts_ * positions_ * width_);
    first_.c = take(parts_ * contexts_ * width_);
    first_.n = take(parts_ * samples * width_);
    first_.n_transposed = take(parts_ * samples * width_);
    s_.g = take(positions_ * samples);
    const auto take_operand = [&](float* copied, std::int64_t floats) {
      return Products::kCopies ? take(floats) : copied;
    };
    first_.x_along = take_operand(first_.x, parts_ * positions_ * words_);
    first_.n_along = take_operand(first_.n_transposed, parts_ * samples * words_);
    first_.x_across = take_operand(first_.x, parts_ * positions_ * width_ / Products::kSteps);
    first_.n_across = take_operand(first_.n, parts_ * samples * width_ / Products::kSteps);
    s_.g_along = take_operand(s_.g, positions_ * samples / Products::kSteps);
    s_.g_across = take_operand(s_.g, positions_ * samples / Products::kSteps);
    context_rows_ = reinterpret_cast<float**>(take(contexts_ * 2));
    s_.slots = slots;
    s_.band = take(positions_ * slots);
    s_.lanes = take(slots * kLanes<float>);
    s_.window = task.window;
    s_.samples = samples;
  }

  std::int64_t scratch_floats() const { return used_; }

  template <SkipGramLoss kLoss>
  double run(const SkipGramBlock& next) {
    enter(next);
    for_parts([&](const SkipGramPart& part) { kernels_.multiply_logits(s_, part); });
    if constexpr (kLoss == SkipGramLoss::kSampledSoftmax) {
      normalize_negatives();
    } else {
      apply_negatives<kLoss>();
    }
    for (std::int64_t i = 0; i < s_.count; ++i) {
      s_.ahead.ask(1);
      for_parts([&](const SkipGramPart& part) { kernels_.multiply_pairs(s_, part, i); });
      add_up_pairs(i);
    }
    apply_pairs<kLoss>();
    if constexpr (kLoss == SkipGramLoss::kSampledSoftmax) weigh_negatives();
    Products::enter_grad(s_);
    for_parts([&](const SkipGramPart& part) {
      kernels_.update_vectors(s_, part);
      kernels_.update_samples(s_, part);
      kernels_.update_contexts(s_, part);
    });
    return static_cast<double>(sum_of_lanes<float>(loss_lanes_));
  }

 private:
  // Logits of a position that are compared with those of its pairs.
  struct SoftmaxRow {
    float log_sum;  // log sum exp of the negatives' logits
    float slope;    // sum over the pairs of sigmoid(log_sum - logit)
  };

  template <class Work>
  [[gnu::always_inline]] void for_parts(const Work& work) const {
    const std::int64_t samples = s_.samples;
    for (std::int64_t p = 0; p < parts_; ++p) {
      const std::int64_t begin = p * width_, along = p * words_, across = p * width_ / Products::kSteps;
      const std::int64_t left = task_.dim - begin;
      work(SkipGramPart{.begin = begin,
                        .columns = left < width_ ? left : width_,
                        .x = first_.x + begin * positions_,
                        .c = first_.c + begin * contexts_,
                        .n = first_.n + begin * samples,
                        .n_transposed = first_.n_transposed + begin * samples,
                        .x_along = first_.x_along + along * positions_,
                        .n_along = first_.n_along + along * samples,
                        .x_across = first_.x_across + across * positions_,
                        .n_across = first_.n_across + across * samples});
    }
  }

  float* vector_row(std::int64_t word) const { return task_.vectors.data + word * task_.vectors.row_stride; }
  float* output_row(std::int64_t word) const { return task_.outputs.data + word * task_.outputs.row_stride; }

  // Copies rows and terms.
  void enter(const SkipGramBlock& next) {
    s_.count = block_.count;
    s_.contexts = block_.count + 2 * task_.window;
    s_.to_left = block_.to_left;
    s_.to_right = block_.to_right;
    for (std::int64_t i = 0; i < s_.count; ++i) s_.vector_rows[i] = vector_row(block_.words[i]);
    for (std::int64_t j = 0; j < s_.contexts; ++j) {
      const std::int32_t word = block_.words[j - task_.window];
      context_rows_[j] = word < 0 ? nullptr : output_row(word);
    }
    s_.context_rows = context_rows_;
    for (std::int64_t n = 0; n < s_.samples; ++n) s_.output_rows[n] = output_row(block_.negatives[n]);
    for_parts([&](const SkipGramPart& part) {
      kernels_.copy(s_.vector_rows, s_.count, part, part.x);
      kernels_.copy(context_rows_, s_.contexts, part, part.c);
      kernels_.copy(s_.output_rows, s_.samples, part, part.n);
      kernels_.enter(s_, part);
    });
    s_.ahead.bytes = task_.dim * static_cast<std::int64_t>(sizeof(float));
    for (std::int64_t i = 0; i < next.count; ++i) {
      s_.ahead.add(vector_row(next.words[i]));
      // The first contexts are those of this block.
      if (const std::int32_t word = next.words[i + task_.window]; word >= 0) s_.ahead.add(output_row(word));
    }
    for (std::int64_t n = 0; n < s_.samples && next.count > 0; ++n) s_.ahead.add(output_row(next.negatives[n]));
  }

  float pairs_of(std::int64_t i) const { return static_cast<float>(block_.to_left[i] + block_.to_right[i]); }

  template <SkipGramLoss kLoss>
  void apply_negatives() {
    Vec<float> sum{};
    for (std::int64_t i = 0; i < s_.count; ++i) {
      float* const g = s_.g + i * s_.samples;
      const float weight = task_.negative_weight * pairs_of(i);
      Vec<float> loss{};
      for (std::int64_t n = 0; n < s_.samples; n += kLanes<float>) {
        const Vec<float> logit =
            kLoss == SkipGramLoss::kNce ? load(g + n) - load(block_.negative_terms + n) : load(g + n);
        const auto logistic = math::logistic<float, Vec<float>, VecBits<float>>(logit);
        loss += logistic.softplus;
        store(g + n, logistic.sigmoid * (weight * -block_.rate));
      }
      sum += loss * weight;
    }
    loss_lanes_ = sum;
  }

  // Leaves the negatives' share of the sum of their exponentials in place of the logits.
  void normalize_negatives() {
    for (std::int64_t i = 0; i < s_.count; ++i) {
      float* const g = s_.g + i * s_.samples;
      Vec<float> largest = broadcast(math::kLeastLogit<float>);
      for (std::int64_t n = 0; n < s_.samples; n += kLanes<float>) {
        const Vec<float> logit = load(g + n) - load(block_.negative_terms + n);
        store(g + n, logit);
        largest = logit > largest ? logit : largest;
      }
      float most = largest[0];
      for (int lane = 1; lane < kLanes<float>; ++lane) most = largest[lane] > most ? largest[lane] : most;
      Vec<float> sum{};
      for (std::int64_t n = 0; n < s_.samples; n += kLanes<float>) {
        const Vec<float> e = math::exp_nonpositive<float, Vec<float>, VecBits<float>>(load(g + n) - most);
        store(g + n, e);
        sum += e;
      }
      const float total = sum_of_lanes<float>(sum);
      softmax_[i] = {most + static_cast<float>(__builtin_log(static_cast<double>(total))), 0.0f};
      for (std::int64_t n = 0; n < s_.samples; n += kLanes<float>) store(g + n, load(g + n) * (1.0f / total));
    }
  }

  void weigh_negatives() {
    for (std::int64_t i = 0; i < s_.count; ++i) {
      float* const g = s_.g + i * s_.samples;
      const float weight = softmax_[i].slope * -block_.rate;
      for (std::int64_t n = 0; n < s_.samples; n += kLanes<float>) store(g + n, load(g + n) * weight);
    }
  }

  // Leaves the logits of the pairs of a centre in its slots of the band. What is in others is not used.
  void add_up_pairs(std::int64_t i) {
    for (std::int64_t o = 0; o < s_.slots; o += kLanes<float>) {
      Vec<float> lanes[kLanes<float>];
#pragma GCC unroll 16
      for (int r = 0; r < kLanes<float>; ++r) lanes[r] = load(s_.lanes + (o + r) * kLanes<float>);
      store(s_.band + i * s_.slots + o, sums_of_rows<float>(lanes));
    }
  }

  // Losses, and the band in place of its logits. A loop of its own, so that one vector does not wait for the other.
  template <SkipGramLoss kLoss>
  void apply_pairs() {
    Vec<float> sum{};
    for (std::int64_t i = 0; i < s_.count; ++i) {
      const auto first = static_cast<std::int32_t>(s_.window - block_.to_left[i]);
      const auto end = static_cast<std::int32_t>(s_.window + 1 + block_.to_right[i]);
      VecBits<float> slot;
      for (int lane = 0; lane < kLanes<float>; ++lane) slot[lane] = lane;
      Vec<float> slopes{};
      for (std::int64_t o = 0; o < s_.slots; o += kLanes<float>, slot += kLanes<float>) {
        const VecBits<float> is_pair = (slot >= first) & (slot < end) & (slot != static_cast<std::int32_t>(s_.window));
        const Vec<float> logit = is_pair ? load(s_.band + i * s_.slots + o) : Vec<float>{};
        const Vec<float> term = load(block_.terms - s_.window + i + o);
        Vec<float> loss, slope;  // slope: -dloss/dlogit
        if constexpr (kLoss == SkipGramLoss::kNegativeSampling) {
          // softplus(-u) and sigmoid(-u) from those of u, without cancellation.
          const auto of = math::logistic<float, Vec<float>, VecBits<float>>(logit);
          const Vec<float> positive = logit < 0.0f ? -logit : Vec<float>{};
          loss = (positive + of.log1p_e) - term * of.softplus;
          slope = (logit > 0.0f ? of.complement : 1.0f - of.sigmoid) + term * of.sigmoid;
        } else {
          const Vec<float> other = kLoss == SkipGramLoss::kNce ? term : term + softmax_[i].log_sum;
          const auto of = math::logistic<float, Vec<float>, VecBits<float>>(other - logit);
          loss = of.softplus;
          slope = of.sigmoid;
        }
        sum += is_pair ? loss : Vec<float>{};
        slope = is_pair ? slope : Vec<float>{};
        if constexpr (kLoss == SkipGramLoss::kSampledSoftmax) slopes += slope;
        store(s_.band + i * s_.slots + o, slope * block_.rate);
      }
      if constexpr (kLoss == SkipGramLoss::kSampledSoftmax) softmax_[i].slope = sum_of_lanes<float>(slopes);
    }
    loss_lanes_ += sum;
  }

  const SkipGramTask& task_;
  const SkipGramBlock& block_;
  const SkipGramPartTable& kernels_;
  std::int64_t used_ = 0;               // floats of scratch memory
  std::int64_t parts_, width_, words_;  // words: in a row of an operand
  std::int64_t positions_, contexts_;   // of a whole block, padded
  SkipGramPart first_;
  float** context_rows_;
  SkipGramState s_;
  SoftmaxRow softmax_[64];
  Vec<float> loss_lanes_{};
};

template <class Products>
std::int64_t skip_gram_scratch(const SkipGramTask& task) {
  return SkipGramStep<Products>(task, {}, nullptr).scratch_floats();
}

template <class Products>
double skip_gram_step(const SkipGramTask& task, const SkipGramBlock& block, const SkipGramBlock& next, float* scratch) {
  SkipGramStep<Products> step(task, block, scratch);
  switch (task.loss) {
    case SkipGramLoss::kNce: return step.template run<SkipGramLoss::kNce>(next);
    case SkipGramLoss::kSampledSoftmax: return step.template run<SkipGramLoss::kSampledSoftmax>(next);
    case SkipGramLoss::kNegativeSampling: break;
  }
  return step.template run<SkipGramLoss::kNegativeSampling>(next);
}

template <class Products>
constexpr SkipGramKernels kSkipGramKernels = {.scratch_floats = skip_gram_scratch<Products>,
                                              .step = skip_gram_step<Products>};
