// The inner loop of log-uniform sampling. Included like simd-inl.h, which see.
// Every rounding is explicit (math/exp.h), so all instruction sets draw the same ids.

void log_uniform_draws(std::uint64_t key, math::PhiloxCounter start, std::uint64_t first, std::int64_t count,
                       double log_range, std::int64_t range_max, std::int64_t* ids) {
  for (std::int64_t i = 0; i < count; ++i) {
    ids[i] = math::log_uniform_draw(key, start, first + static_cast<std::uint64_t>(i), log_range, range_max);
  }
}
