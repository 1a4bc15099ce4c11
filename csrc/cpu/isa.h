// Instruction sets: which kernels this build holds, which the machine can run, which one is in use.
#pragma once

#include <cstdint>
#include <span>

#include "cpu/task.h"
#include "math/philox.h"

namespace fastnce::cpu {

// Everything that is compiled once per instruction set, from the same source.
struct Isa {
  const char* name;
  LossKernels<float> loss_f32;
  LossKernels<double> loss_f64;
  // Draws [first, first + count) of the log-uniform stream that begins at `start`.
  void (*log_uniform_draws)(std::uint64_t key, math::PhiloxCounter start, std::uint64_t first, std::int64_t count,
                            double log_range, std::int64_t range_max, std::int64_t* ids);

  template <class T>
  const LossKernels<T>& loss() const;
};

template <>
inline const LossKernels<float>& Isa::loss<float>() const {
  return loss_f32;
}
template <>
inline const LossKernels<double>& Isa::loss<double>() const {
  return loss_f64;
}

// Narrowest first; only what this machine can run.
std::span<const Isa* const> available_isas();

// The widest, or the one that the environment variable FASTNCE_ISA names; read once. Throws InvalidValue if it names
// none of those available.
const Isa& current_isa();

}  // namespace fastnce::cpu
