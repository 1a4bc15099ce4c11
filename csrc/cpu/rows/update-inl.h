// Updates of rows by an optimizer (math/optimizer/). Compiled once per instruction set; the rules are in simd-inl.h.
//
// The loops over a row are scalar code, so that a formula is written once: they have no dependences and the compiler
// turns them into vectors, roots and divisions included (-fno-math-errno, cmake/isa_flags.cmake). A row is 2 to 4
// streams of memory, which these cannot outrun.

template <class T, class O>
[[gnu::always_inline]] inline void update_elements(const O& optimizer, T keep, std::int64_t dim,
                                                   const T* __restrict gradient, T* __restrict row, T* __restrict first,
                                                   T* __restrict second) {
  for (std::int64_t d = 0; d < dim; ++d) {
    T none{};
    T& a = O::kElementStates > 0 ? first[d] : none;
    T& b = O::kElementStates > 1 ? second[d] : none;
    row[d] = keep * row[d] - optimizer.step(gradient[d], a, b);
  }
}

// The sum of squares of a long row of float32 would lose digits: vectors of partial sums.
template <class T>
T mean_square(const T* values, std::int64_t dim) {
  return dim > 0 ? dot(values, values, dim) / static_cast<T>(dim) : T{0};
}

// Numbers of a row, each of which its 16-bit type then holds.
template <class T>
void round_at_random(DType dtype, math::RowRandom random, std::int64_t dim, T* row) {
  if constexpr (sizeof(T) == sizeof(float)) {
    const auto count = static_cast<std::uint32_t>(dim);
    if (dtype == DType::kBFloat16) {
      for (std::uint32_t d = 0; d < count; ++d) {
        row[d] = math::stochastic_bfloat16(row[d], math::element_bits(random, d));
      }
    } else {
      for (std::uint32_t d = 0; d < count; ++d) {
        row[d] = math::stochastic_float16(row[d], math::element_bits(random, d));
      }
    }
  }
}

template <class T>
[[gnu::always_inline]] inline void prefetch_state(const T* state, std::int64_t dim) {
  constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t d = 0; d < dim; d += kLine) __builtin_prefetch(state + d, 1);
}

template <class T, class O>
void update_as(const UpdatedTable<T>& to, O optimizer, const std::int64_t* ids, std::int64_t rows, const T* gradients,
               T* buffer) {
  constexpr std::int64_t kRowsAhead = 4;
  constexpr int kStates = O::kRowState ? 1 : O::kElementStates;
  const Optimizer& options = *to.optimizer;
  const auto keep = static_cast<T>(1.0 - options.learning_rate * options.weight_decay);
  const RowAddresses addresses(to.table);
  const bool stored = is_stored_as<T>(to.table.dtype);
  const std::int64_t width = O::kRowState ? 1 : to.dim;  // of a row of a state
  const auto state = [&](int i, std::int64_t id) { return i < kStates ? to.states[i] + id * width : nullptr; };
  for (std::int64_t i = 0; i < rows; ++i) {
    if (i + kRowsAhead < rows) {
      const std::int64_t next = ids[i + kRowsAhead];
      prefetch_row(to.table, next, to.dim);
      for (int s = 0; s < kStates; ++s) prefetch_state(state(s, next), width);
    }
    void* const address = const_cast<void*>(addresses[ids[i]]);
    T* const row = stored ? static_cast<T*>(address) : buffer;
    if (!stored) widen<T>(address, to.table.dtype, to.dim, row);
    const T* const gradient = gradients + i * to.dim;
    if constexpr (O::kRowState) optimizer.begin_row(mean_square(gradient, to.dim), *state(0, ids[i]));
    update_elements<T, O>(optimizer, keep, to.dim, gradient, row, state(0, ids[i]), state(1, ids[i]));
    if (stored) continue;
    if (options.rounding_seed) {
      const auto random = math::row_random(*options.rounding_seed, static_cast<std::uint64_t>(options.step),
                                           static_cast<std::uint64_t>(ids[i]), to.number);
      round_at_random(to.table.dtype, random, to.dim, row);
    }
    narrow<T>(row, to.table.dtype, to.dim, address);
  }
}

template <class T>
void update(const UpdatedTable<T>& to, const std::int64_t* ids, std::int64_t rows, const T* gradients, T* buffer) {
  math::with_optimizer<T>(*to.optimizer,
                          [&](const auto& optimizer) { update_as<T>(to, optimizer, ids, rows, gradients, buffer); });
}

template <class T>
void add_row(const void* row, DType dtype, std::int64_t dim, T* sum, T* buffer) {
  const T* values = static_cast<const T*>(row);
  if (!is_stored_as<T>(dtype)) {
    widen<T>(row, dtype, dim, buffer);
    values = buffer;
  }
  scaled_row<T, Write::kAdd>(sum, T{1}, values, dim);
}

template <class T>
constexpr UpdateKernels<T> kUpdateKernels = {.update = update<T>, .add_row = add_row<T>};
