// Instruction sets: which kernels this build holds, which the machine can run, which one is in use.
#pragma once

#include <cstdint>
#include <span>

#include "cpu/loss_task.h"
#include "math/philox.h"

namespace fastnce::cpu {

// Everything that is compiled from the same source once per vector width.
struct FullPrecisionKernels {
  LossKernels<float> loss_f32;
  LossKernels<double> loss_f64;
  TileKernels<float> tiles_f32;
  TileKernels<double> tiles_f64;
  // Draws [first, first + count) of the log-uniform stream that begins at `start`.
  void (*log_uniform_draws)(std::uint64_t key, math::PhiloxCounter start, std::uint64_t first, std::int64_t count,
                            double log_range, std::int64_t range_max, std::int64_t* ids);
  // Expected counts of `ids` among S samples that took `tries` draws.
  void (*log_uniform_counts)(const std::int64_t* ids, std::int64_t count, double log_range, std::int64_t num_sampled,
                             std::int64_t tries, float* counts);
};

struct Isa {
  const char* name;
  const FullPrecisionKernels* full;
  // Products of float32 tiles by the instruction set's bfloat16 units, by Precision; null: full precision is used.
  const TileKernels<float>* split[3];

  template <class T>
  const LossKernels<T>& loss() const;
  template <class T>
  const TileKernels<T>& tiles(Precision precision) const;
};

template <>
inline const LossKernels<float>& Isa::loss() const {
  return full->loss_f32;
}
template <>
inline const LossKernels<double>& Isa::loss() const {
  return full->loss_f64;
}
template <>
inline const TileKernels<float>& Isa::tiles(Precision precision) const {
  const TileKernels<float>* const split_tiles = split[static_cast<int>(precision)];
  return split_tiles != nullptr ? *split_tiles : full->tiles_f32;
}
template <>
inline const TileKernels<double>& Isa::tiles(Precision) const {
  return full->tiles_f64;
}

// Slowest first; only what this machine can run.
std::span<const Isa* const> available_isas();

// The fastest, or the one that the environment variable FASTNCE_ISA names; read once. Throws InvalidValue if it names
// none of those available.
const Isa& current_isa();

}  // namespace fastnce::cpu
