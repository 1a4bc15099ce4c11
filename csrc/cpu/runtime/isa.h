// Instruction sets: which the machine can run, and which one is in use. What is compiled for each is in the tables of
// the operations: cpu/loss/loss_kernels.h, cpu/sampler/sampler_kernels.h.
#pragma once

#include <span>

namespace fastnce::cpu {

enum class Isa { kBaseline, kAvx2, kAvx512, kAvx512Bf16, kAmx };

// As in the environment variable FASTNCE_ISA.
const char* name_of(Isa isa);

// Whose full-precision kernels it uses: the bfloat16 units are in addition to AVX-512.
constexpr Isa full_precision_of(Isa isa) { return isa > Isa::kAvx512 ? Isa::kAvx512 : isa; }

// Slowest first; only what this machine can run.
std::span<const Isa> available_isas();

// The fastest, or the one that the environment variable FASTNCE_ISA names; read once. Throws InvalidValue if it names
// none of those available.
Isa current_isa();

}  // namespace fastnce::cpu
