// Rows of dW and of the gradient of biases where there are several groups of samples. Compiled once per instruction
// set; the rules are in simd-inl.h.
//
// A row is computed by one thread and written once: the shares of its true classes, then those of the samples that are
// of its class, each the sum over its group's examples of G, which was kept, times x. So results depend neither on the
// number of threads nor on which of them computed which examples.

// e / count, with the division of 32-bit numbers where it does: on older processors that of 64 bits takes 90 cycles.
[[gnu::always_inline]] inline std::int64_t quotient(std::int64_t e, std::int64_t count) {
  if (((e | count) >> 32) != 0) return e / count;
  return static_cast<std::uint32_t>(e) / static_cast<std::uint32_t>(count);
}

// The share of one sample of a group: the examples of its group, and G of them.
template <class T>
struct SampleShare {
  Range examples;
  const T* grad;

  [[gnu::always_inline]] SampleShare(const LossTask<T>& task, std::int64_t position) {
    const std::int64_t g = quotient(position, task.num_sampled);
    examples = task.groups.examples(g);
    grad = task.group_grad + examples.begin * task.num_sampled + (position - g * task.num_sampled) * examples.size();
  }
};

template <class T>
T sum_of(const T* values, std::int64_t count) {
  Vec<T> sum{};
  std::int64_t i = 0;
  for (; i + kLanes<T> <= count; i += kLanes<T>) sum += load(values + i);
  T total = sum_of_lanes<T>(sum);
  for (; i < count; ++i) total += values[i];
  return total;
}

template <class T, Write kWrite>
void write_share(const LossTask<T>& task, const SampleShare<T>& share, T* dw) {
  constexpr std::int64_t kSummed = 128;  // examples: long sums of float32 lose digits
  const std::int64_t size = share.examples.size();
  const auto write = [&]<Write kPart>(std::int64_t from) {
    weighted_sum<T, kPart>(
        dw, task.dim, size - from < kSummed ? size - from : kSummed,
        [&](std::int64_t i) { return share.grad[from + i]; },
        [&](std::int64_t i) { return task.input(share.examples.begin + from + i); }, NoRows{});
  };
  write.template operator()<kWrite>(0);
  for (std::int64_t from = kSummed; from < size; from += kSummed) write.template operator()<Write::kAdd>(from);
}

// The first lines that an entry reads: those of other examples follow, where the hardware sees them coming.
template <class T>
[[gnu::always_inline]] inline void prefetch_entry(const LossTask<T>& task, std::int64_t entry,
                                                  std::int64_t num_labels) {
  const std::int64_t row_bytes = task.dim * static_cast<std::int64_t>(sizeof(T));
  if (entry < num_labels) return prefetch_row_to_l2(task.input(task.targets.example_of(entry)), row_bytes);
  const SampleShare<T> share(task, entry - num_labels);
  __builtin_prefetch(share.grad);
  if (share.examples.size() > 0) prefetch_row_to_l2(task.input(share.examples.begin), row_bytes);
}

// Sets rows [r0, r1).
template <class T>
void group_rows(const LossTask<T>& task, Range rows) {
  const std::int64_t num_labels = task.num_entries();
  const std::int64_t last = task.row_offsets[rows.end];
  for (std::int64_t r = rows.begin; r < rows.end; ++r) {
    T* const dw = task.grad_weights != nullptr ? task.grad_weights_row(r) : nullptr;
    bool is_set = false;
    T bias_sum = T{0};
    for (std::int64_t i = task.row_offsets[r]; i < task.row_offsets[r + 1]; ++i) {
      constexpr std::int64_t kEntriesAhead = 8;
      if (i + kEntriesAhead < last) prefetch_entry(task, task.row_entries[i + kEntriesAhead], num_labels);
      const std::int64_t entry = task.row_entries[i];
      if (entry < num_labels) {
        const T g = task.true_grad[entry];
        bias_sum += g;
        if (dw == nullptr) continue;
        const T* const x = task.input(task.targets.example_of(entry));
        is_set ? scaled_row<T, Write::kAdd>(dw, g, x, task.dim) : scaled_row<T, Write::kSet>(dw, g, x, task.dim);
      } else {
        const SampleShare<T> share(task, entry - num_labels);
        if (task.grad_biases != nullptr) bias_sum += sum_of(share.grad, share.examples.size());
        if (dw == nullptr) continue;
        is_set ? write_share<T, Write::kAdd>(task, share, dw) : write_share<T, Write::kSet>(task, share, dw);
      }
      is_set = true;
    }
    if (task.grad_biases != nullptr) task.grad_bias_of(r) = bias_sum;
  }
}
