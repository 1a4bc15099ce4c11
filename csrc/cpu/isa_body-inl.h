// What an isa_*.cpp compiles. Before including it, the file defines
//   FASTNCE_ISA_NAMESPACE     a namespace of its own
//   FASTNCE_ISA_TABLE         the name of the Isa table it exports, and
//   FASTNCE_ISA_NAME          the name users know it by
//   FASTNCE_ISA_VECTOR_BYTES  the width of its vectors.
#include <cstdint>
#include <utility>

#include "cpu/isa.h"
#include "math/log_uniform.h"
#include "math/logistic.h"

namespace fastnce::cpu {

namespace FASTNCE_ISA_NAMESPACE {

constexpr int kVectorBytes = FASTNCE_ISA_VECTOR_BYTES;

#include "cpu/simd-inl.h"
//
#include "cpu/panels-inl.h"
//
#include "cpu/sampled_loss-inl.h"
//
#include "cpu/sampler-inl.h"

}  // namespace FASTNCE_ISA_NAMESPACE

extern const Isa FASTNCE_ISA_TABLE;
const Isa FASTNCE_ISA_TABLE = {
    .name = FASTNCE_ISA_NAME,
    .loss_f32 = FASTNCE_ISA_NAMESPACE::kLossKernels<float>,
    .loss_f64 = FASTNCE_ISA_NAMESPACE::kLossKernels<double>,
    .log_uniform_draws = FASTNCE_ISA_NAMESPACE::log_uniform_draws,
};

}  // namespace fastnce::cpu
