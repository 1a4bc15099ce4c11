// Arithmetic on whole rows. Compiled once per instruction set; the rules are in simd-inl.h.

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
