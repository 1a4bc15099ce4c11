// The limit of losses whose examples have samples of their own: rows of a table, at random places, are read and summed
// up in registers. per_example.py compiles this file for the machine it runs on.
#include <cstdint>

namespace {

constexpr std::int64_t kFloats = 16;  // of a cache line
typedef float Line __attribute__((vector_size(kFloats * sizeof(float)), aligned(sizeof(float)), may_alias));

constexpr std::int64_t kBytesAhead = 16384;
constexpr std::int64_t kAtOnce = 16;  // rows, so that many loads are under way

}  // namespace

// Rows ids[0:count] of `dim` floats, a multiple of 16, each thread its part of them; up to 15 rows of a part are left
// out. Returns the sum of all.
extern "C" float gather(const float* table, const std::int64_t* ids, std::int64_t count, std::int64_t dim,
                        int threads) {
  const std::int64_t row_bytes = dim * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t ahead = kBytesAhead / row_bytes > kAtOnce ? kBytesAhead / row_bytes : kAtOnce;
  float total = 0;
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(+ : total)
  for (int thread = 0; thread < threads; ++thread) {
    const std::int64_t end = count * (thread + 1) / threads;
    Line sum[kAtOnce] = {};
    for (std::int64_t i = count * thread / threads; i + kAtOnce <= end; i += kAtOnce) {
      const float* row[kAtOnce];
      for (std::int64_t j = 0; j < kAtOnce; ++j) {
        row[j] = table + ids[i + j] * dim;
        const std::int64_t later = i + j + ahead < end ? i + j + ahead : i + j;
        const auto* const next = reinterpret_cast<const char*>(table + ids[later] * dim);
        // Into L2: twice the rate of prefetching into L1 on Zen 4. Rows need not start with a line.
        for (std::int64_t line = 0; line < row_bytes; line += 64) __builtin_prefetch(next + line, 0, 2);
        __builtin_prefetch(next + row_bytes - 1, 0, 2);
      }
      for (std::int64_t d = 0; d < dim; d += kFloats) {
        for (std::int64_t j = 0; j < kAtOnce; ++j) sum[j] += *reinterpret_cast<const Line*>(row[j] + d);
      }
    }
    for (const Line& part : sum) {
      for (std::int64_t lane = 0; lane < kFloats; ++lane) total += part[lane];
    }
  }
  return total;
}
