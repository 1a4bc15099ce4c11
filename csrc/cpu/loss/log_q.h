// log Q of expected counts.
#pragma once

#include <cstdint>

namespace fastnce::cpu {

// log(T(counts[i])). What is no expected count gives what the logarithm gives.
void log_of_counts(const float* counts, std::int64_t count, float* log_q);
void log_of_counts(const float* counts, std::int64_t count, double* log_q);
void log_of_counts(const double* counts, std::int64_t count, double* log_q);

}  // namespace fastnce::cpu
