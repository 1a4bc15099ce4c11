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
// For one position at D = 100, S = 32, W = 5, vectors of 16 floats: 650 multiply-adds of vectors in the products, 190 in
// the band (47 for products and for dX each where windows reach 3 on average, 70 and zeros among them for dC), 150 loads
// and stores to copy and update rows.

// Arrays of one step in scratch memory.
struct SkipGramScratch {
  SkipGramScratch(const SkipGramTask& task, float* memory)
      : row(scratch_row(task.dim)), contexts(task.positions + 2 * task.window), slots(padded(2 * task.window + 1)) {
    const auto take = [&](std::int64_t floats) {
      used += padded(floats);
      return memory == nullptr ? nullptr : memory + used - padded(floats);
    };
    x = take(task.positions * row);
    c = take(contexts * row);
    context_terms = take(contexts + 16);  // read by whole vectors
    sample_terms = take(task.samples);
    band = take(task.positions * slots);
    lanes = take(slots * kLanes<float>);
    sum = take(row);
    tile = take(0);
  }

  static constexpr std::int64_t padded(std::int64_t floats) { return (floats + 15) / 16 * 16; }

  std::int64_t row;       // floats from a row of x or c to the next
  std::int64_t contexts;  // of a whole block
  std::int64_t slots;     // of a centre in the band
  std::int64_t used = 0;  // floats
  float *x, *c;
  float *context_terms, *sample_terms;
  float* band;   // [L, slots]
  float* lanes;  // [slots, kLanes]: the products of one centre
  float* sum;    // a row
  float* tile;   // what the tile uses
};

// Logits of a position that are compared with those of its pairs.
struct SoftmaxRow {
  float log_sum;  // log sum exp of the negatives' logits
  float slope;    // sum over the pairs of sigmoid(log_sum - logit)
};

template <class Tile>
class SkipGramStep {
 public:
  SkipGramStep(const SkipGramTask& task, const SkipGramBlock& block, const SkipGramBlock& next, float* memory)
      : task_(task),
        block_(block),
        next_(next),
        own_(task, memory),
        parts_(task.dim),
        tile_(plane_of(task), memory == nullptr ? nullptr : own_.tile) {}

  static PlaneShape plane_of(const SkipGramTask& task) {
    return {.batch = task.positions,
            .num_sampled = task.samples,
            .dim = task.dim,
            .grad_inputs = true,
            .l2_bytes = task.l2_bytes};
  }

  std::int64_t scratch_floats() const { return own_.used + tile_.scratch_elements; }

  template <SkipGramLoss kLoss>
  double run() {
    enter();
    tile_.multiply_logits();
    if constexpr (kLoss == SkipGramLoss::kSampledSoftmax) {
      normalize_negatives();
    } else {
      apply_negatives<kLoss>();
    }
    for (std::int64_t i = 0; i < block_.count; ++i) {
      ask_for_next(i);
      update_by_pairs<kLoss>(i);
    }
    if constexpr (kLoss == SkipGramLoss::kSampledSoftmax) weigh_negatives();
    tile_.enter_grad();
    tile_.add_grad_inputs(vector_rows_);
    tile_.add_grad_weights(sample_rows_);
    tile_.leave_samples(sample_rows_);
    for (std::int64_t j = 0; j < block_.count + 2 * task_.window; ++j) update_context(j);
    return static_cast<double>(sum_of_lanes<float>(loss_lanes_));
  }

 private:
  static constexpr std::int64_t kMostSamples = 128;
  static constexpr std::int64_t kMostPositions = 64;

  float* vector_row(std::int64_t word) const { return task_.vectors.data + word * task_.vectors.row_stride; }
  float* output_row(std::int64_t word) const { return task_.outputs.data + word * task_.outputs.row_stride; }

  // Copies rows and terms.
  void enter() {
    for (std::int64_t i = 0; i < block_.count; ++i) {
      vector_rows_[i] = vector_row(block_.words[i]);
      x_rows_[i] = own_.x + i * own_.row;
      write_row<Write::kSet>(own_.x + i * own_.row, vector_rows_[i], task_.dim);
    }
    for (std::int64_t j = 0; j < block_.count + 2 * task_.window; ++j) {
      float* const to = own_.c + j * own_.row;
      const std::int32_t word = block_.words[j - task_.window];
      if (word >= 0) {
        write_row<Write::kSet>(to, output_row(word), task_.dim);
        own_.context_terms[j] = task_.terms[word];
      } else {  // no NaN may be there, which times 0 would be NaN
        for (std::int64_t d = 0; d < own_.row; d += kLanes<float>) store(to + d, Vec<float>{});
      }
    }
    for (std::int64_t s = 0; s < task_.samples; ++s) {
      sample_rows_[s] = output_row(block_.negatives[s]);
      own_.sample_terms[s] = task_.terms[block_.negatives[s]];
    }
    tile_.enter_samples(sample_rows_, task_.samples, Packed::kForBoth);
    tile_.enter_examples(x_rows_, block_.count);
  }

  float* logits_of(std::int64_t i, std::int64_t s) const {
    return tile_.logits + s / kPanel<float> * tile_.logits_panel + i * kPanel<float> + s % kPanel<float>;
  }

  std::int64_t pairs_of(std::int64_t i) const { return block_.to_left[i] + block_.to_right[i]; }

  template <SkipGramLoss kLoss>
  void apply_negatives() {
    for (std::int64_t s = 0; s < task_.samples; s += kLanes<float>) {
      const Vec<float> term = load(own_.sample_terms + s);
      for (std::int64_t i = 0; i < block_.count; ++i) {
        float* const at = logits_of(i, s);
        const Vec<float> logit = kLoss == SkipGramLoss::kNce ? load(at) - term : load(at);
        const auto logistic = math::logistic<float, Vec<float>, VecBits<float>>(logit);
        const Vec<float> weight = broadcast(task_.negative_weight * static_cast<float>(pairs_of(i)));
        loss_lanes_ += weight * logistic.softplus;
        store(at, logistic.sigmoid * (weight * -block_.rate));
      }
    }
  }

  // Leaves the negatives' share of the sum of their exponentials in place of the logits.
  void normalize_negatives() {
    for (std::int64_t i = 0; i < block_.count; ++i) {
      Vec<float> largest = broadcast(math::kLeastLogit<float>);
      for (std::int64_t s = 0; s < task_.samples; s += kLanes<float>) {
        const Vec<float> logit = load(logits_of(i, s)) - load(own_.sample_terms + s);
        store(logits_of(i, s), logit);
        largest = logit > largest ? logit : largest;
      }
      float most = largest[0];
      for (int lane = 1; lane < kLanes<float>; ++lane) most = largest[lane] > most ? largest[lane] : most;
      Vec<float> sum{};
      for (std::int64_t s = 0; s < task_.samples; s += kLanes<float>) {
        const Vec<float> below = load(logits_of(i, s)) - most;
        const Vec<float> e = math::exp_nonpositive<float, Vec<float>, VecBits<float>>(below);
        store(logits_of(i, s), e);
        sum += e;
      }
      const float total = sum_of_lanes<float>(sum);
      softmax_[i] = {most + static_cast<float>(__builtin_log(static_cast<double>(total))), 0.0f};
      const Vec<float> inverse = broadcast(1.0f / total);
      for (std::int64_t s = 0; s < task_.samples; s += kLanes<float>) {
        store(logits_of(i, s), load(logits_of(i, s)) * inverse);
      }
    }
  }

  void weigh_negatives() {
    for (std::int64_t i = 0; i < block_.count; ++i) {
      const Vec<float> weight = broadcast(softmax_[i].slope * -block_.rate);
      for (std::int64_t s = 0; s < task_.samples; s += kLanes<float>) {
        store(logits_of(i, s), load(logits_of(i, s)) * weight);
      }
    }
  }

  // The pairs of a centre: losses, its slots of the band, the update of its vector.
  template <SkipGramLoss kLoss>
  void update_by_pairs(std::int64_t i) {
    const std::int64_t first = task_.window - block_.to_left[i], count = pairs_of(i) + 1;
    const float* const rows = own_.c + (i + first) * own_.row;
    float* const band = own_.band + i * own_.slots;
    parts_.multiply(own_.x + i * own_.row, rows, own_.row, count, own_.lanes + first * kLanes<float>);
    VecBits<float> slot;
    for (int lane = 0; lane < kLanes<float>; ++lane) slot[lane] = lane;
    Vec<float> slopes{};
    for (std::int64_t o = 0; o < own_.slots; o += kLanes<float>, slot += kLanes<float>) {
      Vec<float> lanes[kLanes<float>];
#pragma GCC unroll 16
      for (int r = 0; r < kLanes<float>; ++r) lanes[r] = load(own_.lanes + (o + r) * kLanes<float>);
      const VecBits<float> is_pair = (slot >= static_cast<std::int32_t>(first)) &
                                     (slot < static_cast<std::int32_t>(first + count)) &
                                     (slot != static_cast<std::int32_t>(task_.window));
      const Vec<float> logit = is_pair ? sums_of_rows<float>(lanes) : Vec<float>{};
      const Vec<float> term = load(own_.context_terms + i + o);
      Vec<float> loss, slope;  // slope: -dloss/dlogit
      if constexpr (kLoss == SkipGramLoss::kNegativeSampling) {
        const auto of = math::logistic<float, Vec<float>, VecBits<float>>(logit);
        // Both terms from one logistic: softplus(-u) = softplus(u) - u, sigmoid(-u) = 1 - sigmoid(u).
        const Vec<float> positive = logit < 0.0f ? -logit : Vec<float>{};
        loss = (positive + of.log1p_e) - term * of.softplus;
        slope = (logit > 0.0f ? of.complement : 1.0f - of.sigmoid) + term * of.sigmoid;
      } else {
        const Vec<float> other = kLoss == SkipGramLoss::kNce ? term : term + softmax_[i].log_sum;
        const auto of = math::logistic<float, Vec<float>, VecBits<float>>(other - logit);
        loss = of.softplus;
        slope = of.sigmoid;
      }
      loss_lanes_ += is_pair ? loss : Vec<float>{};
      slope = is_pair ? slope : Vec<float>{};
      if constexpr (kLoss == SkipGramLoss::kSampledSoftmax) slopes += slope;
      store(band + o, slope * block_.rate);
    }
    if constexpr (kLoss == SkipGramLoss::kSampledSoftmax) softmax_[i].slope = sum_of_lanes<float>(slopes);
    parts_.add_up(band + first, 1, rows, own_.row, count, own_.sum);
    write_row<Write::kAdd>(vector_rows_[i], own_.sum, task_.dim);
  }

  // Context j is in slot j - i of centre i.
  void update_context(std::int64_t j) {
    const std::int32_t word = block_.words[j - task_.window];
    if (word < 0) return;
    const std::int64_t first = j - 2 * task_.window > 0 ? j - 2 * task_.window : 0;
    const std::int64_t end = j + 1 < block_.count ? j + 1 : block_.count;
    parts_.add_up(own_.band + first * own_.slots + (j - first), own_.slots - 1, own_.x + first * own_.row, own_.row,
                  end - first, own_.sum);
    write_row<Write::kAdd>(output_row(word), own_.sum, task_.dim);
  }

  // A part of the rows of the next block, so that they come while this one is computed.
  [[gnu::always_inline]] void ask_for_next(std::int64_t i) const {
    const auto bytes = task_.dim * static_cast<std::int64_t>(sizeof(float));
    if (i < next_.count) {
      prefetch_row_to_l2(vector_row(next_.words[i]), bytes);
      if (const std::int32_t word = next_.words[i + task_.window]; word >= 0) {
        prefetch_row_to_l2(output_row(word), bytes);
      }
    }
    for (std::int64_t s = i; s < task_.samples && next_.count > 0; s += block_.count) {
      prefetch_row_to_l2(output_row(next_.negatives[s]), bytes);
    }
  }

  const SkipGramTask& task_;
  const SkipGramBlock &block_, &next_;
  const SkipGramScratch own_;
  const RowParts parts_;
  Tile tile_;
  float *vector_rows_[kMostPositions], *x_rows_[kMostPositions], *sample_rows_[kMostSamples];
  SoftmaxRow softmax_[kMostPositions];
  Vec<float> loss_lanes_{};
};

template <class Tile>
std::int64_t skip_gram_scratch(const SkipGramTask& task) {
  return SkipGramStep<Tile>(task, {}, {}, nullptr).scratch_floats();
}

template <class Tile>
double skip_gram_step(const SkipGramTask& task, const SkipGramBlock& block, const SkipGramBlock& next, float* scratch) {
  SkipGramStep<Tile> step(task, block, next, scratch);
  switch (task.loss) {
    case SkipGramLoss::kNce: return step.template run<SkipGramLoss::kNce>();
    case SkipGramLoss::kSampledSoftmax: return step.template run<SkipGramLoss::kSampledSoftmax>();
    case SkipGramLoss::kNegativeSampling: break;
  }
  return step.template run<SkipGramLoss::kNegativeSampling>();
}

template <class Tile>
constexpr SkipGramKernels kSkipGramKernels = {.scratch_floats = skip_gram_scratch<Tile>, .step = skip_gram_step<Tile>};
