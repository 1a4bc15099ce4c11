// The row-wise kernels of the fused sampled loss (LossKernels in task.h). The [B, S] plane is in sampled_tiles-inl.h.
// Compiled once per instruction set; the rules are in simd-inl.h.

// Prefetch distance for rows of the class table: gathers are latency-bound, and the hardware prefetcher cannot predict
// random rows.
constexpr std::int64_t kPrefetchRows = 16;

void prefetch_row(const TableView& table, std::int64_t id, std::int64_t dim) {
  const auto* row = static_cast<const char*>(table.row(id));
  for (std::int64_t i = 0; i < dim * element_bytes(table.dtype); i += 64) __builtin_prefetch(row + i);
}

template <class T>
T bias(const LossTask<T>& task, std::int64_t id) {
  T value{};
  return *row_of<T>(task.biases, id, 1, &value);
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

// A vector of labels at a time: logits one by one, loss and slope of the whole vector, then the gradients, while the
// rows of the table and of the inputs are still in the L1 cache.
template <class T>
void true_classes(const LossTask<T>& task, Range examples, T* row) {
  const std::int64_t t_count = task.num_true;
  const std::int64_t last = examples.end * t_count;
  const T target = t_count > 0 ? T{1} / static_cast<T>(t_count) : T{0};
  for (std::int64_t b = examples.begin; b < examples.end; ++b) {
    task.loss_sum[b] = 0.0;
    for (std::int64_t d = 0; d < task.dim && t_count == 0 && task.grad_inputs != nullptr; ++d) {
      task.grad_inputs[b * task.dim + d] = T{0};
    }
  }
  for (std::int64_t first = examples.begin * t_count; first < last; first += kLanes<T>) {
    const std::int64_t present = last - first < kLanes<T> ? last - first : kLanes<T>;
    Vec<T> u{};
    for (std::int64_t i = 0; i < present; ++i) {
      const std::int64_t at = first + i;
      if (at + kPrefetchRows < last) prefetch_row(task.weights, task.labels[at + kPrefetchRows], task.dim);
      const T* x = task.inputs + at / t_count * task.inputs_stride;
      const T* w = row_of(task.weights, task.labels[at], task.dim, row);
      u[i] = dot(x, w, task.dim) + bias(task, task.labels[at]) - natural_log(task.true_count[at]);
    }
    const auto logistic = math::logistic<T, Vec<T>, VecBits<T>>(u);
    // softplus(u) - u / T and sigmoid(u) - 1 / T, in the order that loses nothing to cancellation when T = 1.
    const Vec<T> loss = ((u < T{0} ? Vec<T>{} : u) - u * target) + logistic.log1p_e;
    const Vec<T> slope = u > T{0} ? (T{1} - target) - logistic.complement : logistic.sigmoid - target;
    for (std::int64_t i = 0; i < present; ++i) {
      const std::int64_t at = first + i;
      const std::int64_t b = at / t_count;
      const T g = task.grad_loss != nullptr ? slope[i] * task.grad_loss[b] : slope[i];
      task.loss_sum[b] += static_cast<double>(loss[i]);
      task.true_grad[at] = g;
      if (task.grad_inputs == nullptr) continue;
      T* dx = task.grad_inputs + b * task.dim;
      const T* w = row_of(task.weights, task.labels[at], task.dim, row);
      at % t_count == 0 ? scaled_row<T, Write::kSet>(dx, g, w, task.dim)
                        : scaled_row<T, Write::kAdd>(dx, g, w, task.dim);
    }
  }
}

template <class T>
void sampled_offsets(const LossTask<T>& task, Range sampled) {
  for (std::int64_t s = sampled.begin; s < sampled.end; ++s) {
    task.sampled_offset[s] = bias(task, task.sampled[s]) - natural_log(task.sampled_count[s]);
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
    .widen = widen<T>,
    .narrow = narrow<T>,
    .true_classes = true_classes<T>,
    .sampled_offsets = sampled_offsets<T>,
    .start_rows = start_rows<T>,
    .finish_rows = finish_rows<T>,
};
