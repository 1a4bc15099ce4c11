// The true classes of the softmax losses, before and after the samples. Compiled once per instruction set; the rules
// are in simd-inl.h.

template <class T>
void softmax_true_logits(const LossTask<T>& task, Range examples, T* row) {
  const std::int64_t last = task.targets.begin(examples.end);
  for (std::int64_t b = examples.begin; b < examples.end; ++b) {
    const T* x = task.input(b);
    const bool has_others = task.parts.log_sum_exp != nullptr;
    const double others = has_others ? task.parts.log_sum_exp[task.row_of_batch(b)] : 0.0;
    T largest = math::kLeastLogit<T>;
    if (has_others && others > static_cast<double>(largest)) largest = static_cast<T>(others);
    for (std::int64_t e = task.targets.begin(b); e < task.targets.begin(b + 1); ++e) {
      prefetch_true_class(task, e, last);
      const T u = true_logit(task, e, x, row);
      task.true_grad[e] = u;
      largest = u > largest ? u : largest;
    }
    task.softmax_max[b] = largest;
    task.softmax_sum[b] = has_others ? math::exp_of_others<T>(others, largest) : 0.0;
  }
}

// exp(u - m) of every entry, a vector at a time.
template <class T>
void true_exponentials(const LossTask<T>& task, Range examples) {
  const std::int64_t last = task.targets.begin(examples.end);
  std::int64_t b = examples.begin;
  for (std::int64_t first = task.targets.begin(b); first < last; first += kLanes<T>) {
    const std::int64_t present = last - first < kLanes<T> ? last - first : kLanes<T>;
    T largest[kLanes<T>] = {};
    for (std::int64_t i = 0; i < present; ++i) {
      while (first + i >= task.targets.begin(b + 1)) ++b;
      largest[i] = task.softmax_max[b];
    }
    const Vec<T> u = present == kLanes<T> ? load(task.true_grad + first) : load_first(task.true_grad + first, present);
    T exps[kLanes<T>];
    store(exps, math::exp_nonpositive<T, Vec<T>, VecBits<T>>(u - load(largest)));
    for (std::int64_t i = 0; i < present; ++i) task.true_exp[first + i] = exps[i];
  }
}

// The sum of the weights of an example's labels, of which `own` is that of the labels of this call.
template <class T>
double shares_of_all_parts(const LossTask<T>& task, std::int64_t b, double own) {
  if (task.targets.counts == nullptr) return own;
  const double* const weights = task.parts.label_weight;
  return weights != nullptr ? weights[task.row_of_batch(b)] : static_cast<double>(task.targets.counts[b]);
}

template <class T>
void softmax_true_classes(const LossTask<T>& task, Range examples, T* row) {
  true_exponentials(task, examples);
  const TargetsView<T>& targets = task.targets;
  const std::int64_t last = targets.begin(examples.end);
  for (std::int64_t b = examples.begin; b < examples.end; ++b) {
    const std::int64_t begin = targets.begin(b), end = targets.begin(b + 1);
    const auto largest = static_cast<double>(task.softmax_max[b]);
    double of_true = 0.0;
    for (std::int64_t e = begin; e < end; ++e) of_true += static_cast<double>(task.true_exp[e]);
    const math::SoftmaxSums sums{of_true, task.softmax_sum[b]};
    const double total = sums.total();
    double own_shares = 0.0;
    for (std::int64_t e = begin; e < end; ++e) own_shares += static_cast<double>(targets.weight(e));
    const double shares = shares_of_all_parts(task, b, own_shares);
    const double q = targets.count_of_all_parts(b) > 0 ? static_cast<double>(targets.target(b)) : 0.0;
    const double upstream = static_cast<double>(task.upstream(b));
    const double factor = q * upstream / total;
    double loss = 0.0;
    for (std::int64_t e = begin; e < end; ++e) {
      const auto own = static_cast<double>(task.true_exp[e]);
      const auto share = static_cast<double>(targets.weight(e));
      loss += share * (largest - static_cast<double>(task.true_grad[e]));
      task.true_grad[e] = static_cast<T>(sums.true_slope(own, share, shares) * factor);
      if (task.grad_inputs == nullptr) continue;
      prefetch_true_class(task, e, last);
      add_true_grad_input(task, e, b, row);
    }
    if (task.grad_inputs != nullptr && begin == end) clear_grad_input(task, b);
    const double log_total = __builtin_log(total);
    task.loss_sum[b] = end > begin ? q * (loss + own_shares * log_total) : 0.0;
    task.softmax_factor[b] = q > 0.0 ? static_cast<T>(shares * factor) : T{0};
    if (task.log_sum_exp != nullptr) task.log_sum_exp[task.row_of_batch(b)] = largest + log_total;
  }
}
