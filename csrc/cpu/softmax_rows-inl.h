// The true classes of the softmax losses, before and after the samples. Compiled once per instruction set; the rules
// are in simd-inl.h.

// The least that a maximum starts from: so far above kRemovedLogit that exp(kRemovedLogit - maximum) is 0.
template <class T>
constexpr T kLeastMaximum = T{-1e29};

template <class T>
void softmax_true_logits(const LossTask<T>& task, Range examples, T* row) {
  const std::int64_t last = task.targets.begin(examples.end);
  for (std::int64_t b = examples.begin; b < examples.end; ++b) {
    const T* x = task.input(b);
    T largest = kLeastMaximum<T>;
    for (std::int64_t e = task.targets.begin(b); e < task.targets.begin(b + 1); ++e) {
      prefetch_true_class(task, e, last);
      const T u = true_logit(task, e, x, row);
      task.true_grad[e] = u;
      largest = u > largest ? u : largest;
    }
    task.softmax_max[b] = largest;
    task.softmax_sum[b] = 0.0;
  }
}

// With p = exp(u - m) / total and n true classes of target q each, dloss/du = n q p - q. As q ((n - 1) e - others) /
// total it loses nothing where p is close to 1: the terms of the other classes are added up apart, not subtracted from
// total.
template <class T>
void softmax_true_classes(const LossTask<T>& task, Range examples, T* row) {
  const TargetsView<T>& targets = task.targets;
  const std::int64_t last = targets.begin(examples.end);
  for (std::int64_t b = examples.begin; b < examples.end; ++b) {
    const std::int64_t begin = targets.begin(b), end = targets.begin(b + 1);
    const T largest = task.softmax_max[b];
    // exp(u - m) of a vector of entries from e on.
    const auto exps = [&](std::int64_t e, std::int64_t present) {
      const Vec<T> u = load_first(task.true_grad + e, present);
      return math::exp_nonpositive<T, Vec<T>, VecBits<T>>(u - largest);
    };
    double of_true = 0.0;
    for (std::int64_t first = begin; first < end; first += kLanes<T>) {
      const std::int64_t present = end - first < kLanes<T> ? end - first : kLanes<T>;
      const Vec<T> own = exps(first, present);
      for (std::int64_t i = 0; i < present; ++i) of_true += static_cast<double>(own[i]);
    }
    const double of_samples = task.softmax_sum[b];
    const double total = of_true + of_samples;
    const double count = static_cast<double>(end - begin);
    const double q = end > begin ? static_cast<double>(targets.target(b)) : 0.0;
    const double upstream = static_cast<double>(task.upstream(b));
    const double log_total = __builtin_log(total);
    double loss = 0.0;
    for (std::int64_t first = begin; first < end; first += kLanes<T>) {
      const std::int64_t present = end - first < kLanes<T> ? end - first : kLanes<T>;
      const Vec<T> of_each = exps(first, present);
      for (std::int64_t i = 0; i < present; ++i) {
        const double below = static_cast<double>(largest) - static_cast<double>(task.true_grad[first + i]);
        const auto own = static_cast<double>(of_each[i]);
        const double others = of_samples + (of_true - own);
        loss += q * (below + log_total);
        task.true_grad[first + i] = static_cast<T>(q * ((count - 1.0) * own - others) / total * upstream);
        if (task.grad_inputs == nullptr) continue;
        prefetch_true_class(task, first + i, last);
        add_true_grad_input(task, first + i, b, row);
      }
    }
    if (task.grad_inputs != nullptr && begin == end) clear_grad_input(task, b);
    task.loss_sum[b] = loss;
    task.softmax_factor[b] = end > begin ? static_cast<T>(count * q / total * upstream) : T{0};
  }
}
