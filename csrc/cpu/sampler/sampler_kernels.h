// The kernels of the samplers: one table per instruction set.
#pragma once

#include <cstdint>

#include "cpu/runtime/isa.h"
#include "math/philox.h"

namespace fastnce::cpu {

struct LogUniformKernels {
  // Draws [first, first + count) of the stream that begins at `start`.
  void (*draws)(std::uint64_t key, math::PhiloxCounter start, std::uint64_t first, std::int64_t count, double log_range,
                std::int64_t range_max, std::int64_t* ids);
  // Expected counts of `ids` among S samples that took `tries` draws.
  void (*counts)(const std::int64_t* ids, std::int64_t count, double log_range, std::int64_t num_sampled,
                 std::int64_t tries, float* counts);
};

const LogUniformKernels& log_uniform_kernels(Isa isa);

}  // namespace fastnce::cpu
