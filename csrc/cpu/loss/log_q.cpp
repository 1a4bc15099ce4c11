#include "cpu/loss/log_q.h"

#include <cmath>

#include "cpu/runtime/parallel.h"

namespace fastnce::cpu {

namespace {

// Some 5 ns each: starting a thread for fewer costs more than it saves.
constexpr double kLogsPerThread = 4096;

template <class From, class T>
void log_all(const From* counts, std::int64_t count, T* log_q) {
  parallel(threads_for(static_cast<double>(count), kLogsPerThread), [&](const Team& team) {
    const Range own = team.share(count);
    for (std::int64_t i = own.begin; i < own.end; ++i) log_q[i] = std::log(static_cast<T>(counts[i]));
  });
}

}  // namespace

void log_of_counts(const float* counts, std::int64_t count, float* log_q) { log_all(counts, count, log_q); }
void log_of_counts(const float* counts, std::int64_t count, double* log_q) { log_all(counts, count, log_q); }
void log_of_counts(const double* counts, std::int64_t count, double* log_q) { log_all(counts, count, log_q); }

}  // namespace fastnce::cpu
