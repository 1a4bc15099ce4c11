// The kernels of the samplers: one table per instruction set.
#pragma once

#include <cstdint>

#include "cpu/runtime/isa.h"
#include "math/philox.h"

namespace fastnce::cpu {

struct SamplerKernels {
  // Draws [first, first + count) of the stream that begins at `start`.
  void (*log_uniform_draws)(std::uint64_t key, math::PhiloxCounter start, std::uint64_t first, std::int64_t count,
                            double log_range, std::int64_t range_max, std::int64_t* ids);
  // Expected counts of `ids` among S samples that took `tries` draws.
  void (*log_uniform_counts)(const std::int64_t* ids, std::int64_t count, double log_range, std::int64_t num_sampled,
                             std::int64_t tries, float* counts);
  // The same of classes of these probabilities in one draw, of which `left` is not drawn again. In place or not.
  void (*counts)(const float* probabilities, std::int64_t count, double left, std::int64_t num_sampled,
                 std::int64_t tries, float* counts);
};

const SamplerKernels& sampler_kernels(Isa isa);

}  // namespace fastnce::cpu
