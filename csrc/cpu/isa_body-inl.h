// What an isa_*.cpp of one vector width compiles. Before including it, the file defines
//   FASTNCE_ISA_NAMESPACE     a namespace of its own, which exports kLoss and kLogUniform, and
//   FASTNCE_ISA_VECTOR_BYTES  the width of its vectors.
#include <cstdint>
#include <utility>

#include "cpu/loss_kernels.h"
#include "cpu/sampler_kernels.h"
#include "math/distribution/log_uniform.h"
#include "math/loss/logistic.h"
#include "math/loss/softmax.h"

namespace fastnce::cpu::FASTNCE_ISA_NAMESPACE {

constexpr int kVectorBytes = FASTNCE_ISA_VECTOR_BYTES;

#include "cpu/simd-inl.h"
//
#include "cpu/element_types-inl.h"
//
#include "cpu/tile-inl.h"
//
#include "cpu/panels-inl.h"
//
#include "cpu/panel_tile-inl.h"
//
#include "cpu/table_rows-inl.h"
//
#include "cpu/loss_tiles-inl.h"
//
#include "cpu/logistic_tiles-inl.h"
//
#include "cpu/softmax_tiles-inl.h"
//
#include "cpu/tile_kernels-inl.h"
//
#include "cpu/loss_rows-inl.h"
//
#include "cpu/logistic_rows-inl.h"
//
#include "cpu/softmax_rows-inl.h"
//
#include "cpu/loss_kernels-inl.h"
//
#include "cpu/sampler-inl.h"

extern const FullPrecisionLoss kLoss;
const FullPrecisionLoss kLoss = {
    .loss_f32 = kLossKernels<float>,
    .loss_f64 = kLossKernels<double>,
    .tiles_f32 = kTileKernels<PanelTile<float>>,
    .tiles_f64 = kTileKernels<PanelTile<double>>,
};

extern const LogUniformKernels kLogUniform;
const LogUniformKernels kLogUniform = {.draws = log_uniform_draws, .counts = log_uniform_counts};

}  // namespace fastnce::cpu::FASTNCE_ISA_NAMESPACE
