// What the losses share outside the [B, S] plane: true logits, their gradients, rows of dW.
// Compiled once per instruction set; the rules are in simd-inl.h.

template <class T>
T bias(const LossTask<T>& task, std::int64_t id) {
  if (task.biases.num_shards == 0) return T{0};
  T value{};
  return *row_of<T>(task.biases, id, 1, &value);
}

template <class T>
T true_logit(const LossTask<T>& task, std::int64_t entry, const T* x, T* row) {
  const std::int64_t id = task.targets.ids[entry];
  const T* w = row_of(task.weights, id, task.dim, row);
  const T u = dot(x, w, task.dim) + bias(task, id);
  return task.targets.log_q != nullptr ? u - task.targets.log_q[entry] : u;
}

template <class T>
[[gnu::always_inline]] inline void prefetch_true_class(const LossTask<T>& task, std::int64_t entry, std::int64_t end) {
  if (entry + kPrefetchRows < end) prefetch_row(task.weights, task.targets.ids[entry + kPrefetchRows], task.dim);
}

// The share of a true class in dX, which the first of an example sets.
template <class T>
void add_true_grad_input(const LossTask<T>& task, std::int64_t entry, std::int64_t b, T* row) {
  T* dx = task.grad_input(b);
  const T* w = row_of(task.weights, task.targets.ids[entry], task.dim, row);
  entry == task.targets.begin(b) ? scaled_row<T, Write::kSet>(dx, task.true_grad[entry], w, task.dim)
                                 : scaled_row<T, Write::kAdd>(dx, task.true_grad[entry], w, task.dim);
}

// For an example without true classes, which sets nothing.
template <class T>
void clear_grad_input(const LossTask<T>& task, std::int64_t b) {
  T* dx = task.grad_input(b);
  for (std::int64_t d = 0; d < task.dim; ++d) dx[d] = T{0};
}

// The bias of each sample, from a table that is stored as T. Those of the group that comes next are prefetched.
template <class T>
void gather_biases(const LossTask<T>& task, Range sampled) {
  const RowAddresses biases(task.biases);
  for (std::int64_t s = sampled.begin; s < sampled.end; ++s) {
    if (s < task.group.following) prefetch_to_l2(biases[task.sampled[task.num_sampled + s]]);
    task.sampled_offset[s] = *static_cast<const T*>(biases[task.sampled[s]]);
  }
}

template <class T>
void sampled_offsets(const LossTask<T>& task, Range sampled) {
  if (task.biases.num_shards > 0 && is_stored_as<T>(task.biases.dtype)) {
    gather_biases(task, sampled);
  } else {
    for (std::int64_t s = sampled.begin; s < sampled.end; ++s) task.sampled_offset[s] = bias(task, task.sampled[s]);
  }
  if (task.sampled_log_q == nullptr) return;
  for (std::int64_t s = sampled.begin; s < sampled.end; ++s) task.sampled_offset[s] -= task.sampled_log_q[s];
}

// The share of the true classes in rows of dW and of the gradient of biases.
template <class T, Write kWrite>
void true_rows(const LossTask<T>& task, Range rows) {
  const std::int64_t num_labels = task.num_entries();
  for (std::int64_t r = rows.begin; r < rows.end; ++r) {
    T* dw = task.grad_weights != nullptr ? task.grad_weights_row(r) : nullptr;
    T bias_sum = T{0};
    const std::int64_t begin = task.row_offsets[r];
    std::int64_t i = begin;
    for (; i < task.row_offsets[r + 1] && task.row_entries[i] < num_labels; ++i) {
      const std::int64_t label = task.row_entries[i];
      const T g = task.true_grad[label];
      bias_sum += g;
      if (dw == nullptr) continue;
      const T* x = task.input(task.targets.example_of(label));
      kWrite == Write::kSet&& i == begin ? scaled_row<T, Write::kSet>(dw, g, x, task.dim)
                                         : scaled_row<T, Write::kAdd>(dw, g, x, task.dim);
    }
    if (kWrite == Write::kSet && dw != nullptr && i == begin) {
      for (std::int64_t d = 0; d < task.dim; ++d) dw[d] = T{0};
    }
    if (task.grad_biases == nullptr) continue;
    task.grad_bias_of(r) = (kWrite == Write::kSet ? T{0} : task.grad_bias_of(r)) + bias_sum;
  }
}

template <class T>
void clear_rows(const LossTask<T>& task, Range rows) {
  for (std::int64_t i = 0; i < rows.size() * task.dim && task.grad_weights != nullptr; ++i) {
    task.grad_weights_row(rows.begin)[i] = T{0};
  }
  for (std::int64_t r = rows.begin; r < rows.end && task.grad_biases != nullptr; ++r) task.grad_bias_of(r) = T{0};
}

template <class T>
void add_copies(const LossTask<T>& task, Range rows) {
  const std::int64_t num_labels = task.num_entries();
  for (std::int64_t r = rows.begin; r < rows.end; ++r) {
    for (std::int64_t i = task.row_offsets[r]; i < task.row_offsets[r + 1]; ++i) {
      const std::int64_t s = task.row_entries[i] - num_labels;
      if (s < 0) continue;
      for (std::int64_t copy = 0; copy < task.copies && task.grad_biases != nullptr; ++copy) {
        task.grad_bias_of(r) += task.bias_copies[copy * task.num_sampled + s];
      }
      for (std::int64_t copy = 0; copy < task.weight_copy_count && task.grad_weights != nullptr; ++copy) {
        const T* from = task.weight_copies + (copy * task.num_sampled + s) * task.dim;
        scaled_row<T, Write::kAdd>(task.grad_weights_row(r), T{1}, from, task.dim);
      }
    }
  }
}
