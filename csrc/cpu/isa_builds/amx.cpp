// AMX: float32 tiles at every precision.
#include <immintrin.h>

#define FASTNCE_ISA_NAMESPACE isa_amx
#define FASTNCE_ISA_ROUND "cpu/gemm/round_avx512_bf16-inl.h"
#define FASTNCE_ISA_MULTIPLIER "cpu/gemm/multiplier_amx-inl.h"

#include "cpu/isa_builds/bf16_parts-inl.h"

namespace fastnce::cpu::isa_amx {

extern const TileKernels<float> kSixProducts;
extern const SweepKernels<float> kSixProductsSweep;
extern const TileKernels<float> kThreeProducts;
extern const SweepKernels<float> kThreeProductsSweep;
extern const TileKernels<float> kOneProduct;
extern const SweepKernels<float> kOneProductSweep;
const TileKernels<float> kSixProducts = kTileKernels<SplitTile<3, AmxMultiplier>>;
const SweepKernels<float> kSixProductsSweep = kSweepKernels<SplitTile<3, AmxMultiplier>>;
const TileKernels<float> kThreeProducts = kTileKernels<SplitTile<2, AmxMultiplier>>;
const SweepKernels<float> kThreeProductsSweep = kSweepKernels<SplitTile<2, AmxMultiplier>>;
const TileKernels<float> kOneProduct = kTileKernels<SplitTile<1, AmxMultiplier>>;
const SweepKernels<float> kOneProductSweep = kSweepKernels<SplitTile<1, AmxMultiplier>>;

}  // namespace fastnce::cpu::isa_amx
