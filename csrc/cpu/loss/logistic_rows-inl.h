// The true classes of the logistic losses. Compiled once per instruction set; the rules are in simd-inl.h.

// A vector of entries at a time: logits one by one, loss and slope of the whole vector, then the gradients, while the
// rows of the table and of the inputs are still in the L1 cache.
template <class T>
void logistic_true_classes(const LossTask<T>& task, Range examples, T* row) {
  const TargetsView<T>& targets = task.targets;
  const bool dense = targets.offsets == nullptr;
  const Vec<T> dense_target = broadcast(dense && targets.per_example > 0 ? targets.target(0) : T{0});
  const std::int64_t last = targets.begin(examples.end);
  for (std::int64_t b = examples.begin; b < examples.end; ++b) {
    task.loss_sum[b] = 0.0;
    if (task.grad_inputs != nullptr && targets.count(b) == 0) clear_grad_input(task, b);
  }
  for (std::int64_t first = targets.begin(examples.begin); first < last; first += kLanes<T>) {
    const std::int64_t present = last - first < kLanes<T> ? last - first : kLanes<T>;
    std::int64_t example[kLanes<T>];
    Vec<T> u{};
    Vec<T> target = dense_target;
    for (std::int64_t i = 0; i < present; ++i) {
      example[i] = targets.example_of(first + i);
      prefetch_true_class(task, first + i, last);
      u[i] = true_logit(task, first + i, task.input(example[i]), row);
      if (!dense) target[i] = targets.target(example[i]);
    }
    const auto term = math::positive_term<T, Vec<T>, VecBits<T>>(u, target);
    for (std::int64_t i = 0; i < present; ++i) {
      const std::int64_t b = example[i];
      T loss = term.loss[i];
      T g = term.slope[i];
      if (!task.positive_weight.is_one()) {
        loss *= task.positive_weight.of(task.row_of_batch(b));
        g *= task.positive_weight.of(task.row_of_batch(b));
      }
      if (targets.weights != nullptr) {
        loss *= targets.weights[first + i];
        g *= targets.weights[first + i];
      }
      if (task.grad_loss != nullptr) g *= task.upstream(b);
      task.loss_sum[b] += static_cast<double>(loss);
      task.true_grad[first + i] = g;
      if (task.grad_inputs != nullptr) add_true_grad_input(task, first + i, b, row);
    }
  }
}
