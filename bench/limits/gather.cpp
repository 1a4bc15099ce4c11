// The limit of losses whose examples have samples of their own: rows of a table, at random places, are read and summed
// up in registers. per_example.py compiles this file for the machine it runs on.
#include <cstdint>

namespace {

constexpr std::int64_t kFloats = 16;  // of a cache line
typedef float Line __attribute__((vector_size(kFloats * sizeof(float)), aligned(sizeof(float)), may_alias));

constexpr std::int64_t kBytesAhead = 8192;

}  // namespace

// Rows ids[0:count] of `dim` floats, a multiple of 16, each thread its part of them. Returns the sum of all.
extern "C" float gather(const float* table, const std::int64_t* ids, std::int64_t count, std::int64_t dim,
                        int threads) {
  const std::int64_t row_bytes = dim * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t ahead = kBytesAhead / row_bytes > 4 ? kBytesAhead / row_bytes : 4;
  float total = 0;
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(+ : total)
  for (int thread = 0; thread < threads; ++thread) {
    const std::int64_t end = count * (thread + 1) / threads;
    Line sum[4] = {};
    for (std::int64_t i = count * thread / threads; i < end; ++i) {
      const auto* const next = reinterpret_cast<const char*>(table + ids[i + ahead < end ? i + ahead : i] * dim);
      for (std::int64_t line = 0; line < row_bytes; line += 64) __builtin_prefetch(next + line);
      __builtin_prefetch(next + row_bytes - 1);  // rows need not start with a line
      const float* const row = table + ids[i] * dim;
      for (std::int64_t d = 0; d < dim; d += kFloats) sum[d / kFloats % 4] += *reinterpret_cast<const Line*>(row + d);
    }
    for (const Line& part : sum) {
      for (std::int64_t lane = 0; lane < kFloats; ++lane) total += part[lane];
    }
  }
  return total;
}
