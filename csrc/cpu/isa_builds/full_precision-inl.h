// What a file of this folder that has one vector width compiles. Before including it, the file defines
//   FASTNCE_ISA_NAMESPACE     a namespace of its own, which exports kLoss, kSweep, kUpdate, kSampler and kSkipGram, and
//   FASTNCE_ISA_VECTOR_BYTES  the width of its vectors.
#include <cstdint>
#include <type_traits>
#include <utility>

#include "cpu/all_classes/sweep_kernels.h"
#include "cpu/loss/loss_kernels.h"
#include "cpu/rows/update_kernels.h"
#include "cpu/sampler/sampler_kernels.h"
#include "cpu/skip_gram/skip_gram_kernels.h"
#include "math/distribution/log_uniform.h"
#include "math/loss/logistic.h"
#include "math/loss/softmax.h"
#include "math/optimizer/registry.h"
#include "math/stochastic_rounding.h"

namespace fastnce::cpu::FASTNCE_ISA_NAMESPACE {

constexpr int kVectorBytes = FASTNCE_ISA_VECTOR_BYTES;

#include "cpu/gemm/simd-inl.h"
//
#include "cpu/gemm/element_types-inl.h"
//
#include "cpu/gemm/tile-inl.h"
//
#include "cpu/gemm/panels-inl.h"
//
#include "cpu/gemm/panel_tile-inl.h"
//
#include "cpu/gemm/gather_tile-inl.h"
//
#include "cpu/rows/table_rows-inl.h"
//
#include "cpu/rows/row_vectors-inl.h"
//
#include "cpu/rows/update-inl.h"
//
#include "cpu/loss/loss_tiles-inl.h"
//
#include "cpu/loss/removed_samples-inl.h"
//
#include "cpu/loss/logistic_tiles-inl.h"
//
#include "cpu/loss/softmax_tiles-inl.h"
//
#include "cpu/loss/tile_kernels-inl.h"
//
#include "cpu/loss/loss_rows-inl.h"
//
#include "cpu/loss/logistic_rows-inl.h"
//
#include "cpu/loss/softmax_rows-inl.h"
//
#include "cpu/loss/group_rows-inl.h"
//
#include "cpu/loss/loss_kernels-inl.h"
//
#include "cpu/all_classes/sweep-inl.h"
//
#include "cpu/all_classes/evaluate-inl.h"
//
#include "cpu/all_classes/full_losses-inl.h"
//
#include "cpu/all_classes/sweep_kernels-inl.h"
//
#include "cpu/sampler/sampler-inl.h"
//
#include "cpu/skip_gram/parts-inl.h"
//
#include "cpu/skip_gram/step-inl.h"

extern const FullPrecisionLoss kLoss;
const FullPrecisionLoss kLoss = {
    .loss_f32 = kLossKernels<float>,
    .loss_f64 = kLossKernels<double>,
    .tiles_f32 = kTileKernels<PanelTile<float>>,
    .gather_f32 = kTileKernels<GatherTile<float>>,
    .tiles_f64 = kTileKernels<PanelTile<double>>,
    .gather_f64 = kTileKernels<GatherTile<double>>,
};

extern const FullPrecisionSweep kSweep;
const FullPrecisionSweep kSweep = {
    .f32 = kSweepKernels<PanelTile<float>>,
    .f64 = kSweepKernels<PanelTile<double>>,
};

extern const FullPrecisionUpdate kUpdate;
const FullPrecisionUpdate kUpdate = {.f32 = kUpdateKernels<float>, .f64 = kUpdateKernels<double>};

extern const SamplerKernels kSampler;
const SamplerKernels kSampler = {
    .log_uniform_draws = log_uniform_draws, .log_uniform_counts = log_uniform_counts, .counts = expected_counts};

extern const SkipGramKernels kSkipGram;
const SkipGramKernels kSkipGram = kSkipGramKernels<FloatProducts>;

}  // namespace fastnce::cpu::FASTNCE_ISA_NAMESPACE
