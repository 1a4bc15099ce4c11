// Rows of class tables. Compiled once per instruction set; the rules are in simd-inl.h.

// Row `id` of a table as T: where it lies, or widened into `buffer`.
template <class T>
const T* row_of(const TableView& table, std::int64_t id, std::int64_t count, T* buffer) {
  const void* row = table.row(id);
  if (is_stored_as<T>(table.dtype)) return static_cast<const T*>(row);
  widen<T>(row, table.dtype, count, buffer);
  return buffer;
}

// Prefetch distance for rows of the class table: gathers are latency-bound, and the hardware prefetcher cannot predict
// random rows. What only prefetches must be inlined: GCC takes it for a function without effects, and drops calls to
// it.
constexpr std::int64_t kPrefetchRows = 16;

[[gnu::always_inline]] inline void prefetch_row(const TableView& table, std::int64_t id, std::int64_t dim) {
  const auto* row = static_cast<const char*>(table.row(id));
  for (std::int64_t i = 0; i < dim * element_bytes(table.dtype); i += 64) __builtin_prefetch(row + i);
}
