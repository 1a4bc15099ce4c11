// AVX512-BF16: float32 tiles at medium precision.
#include <immintrin.h>

#define FASTNCE_ISA_NAMESPACE isa_avx512_bf16
#define FASTNCE_ISA_ROUND "cpu/gemm/round_avx512_bf16-inl.h"
#define FASTNCE_ISA_MULTIPLIER "cpu/gemm/multiplier_avx512_bf16-inl.h"

#include "cpu/isa_builds/bf16_parts-inl.h"
#include "cpu/skip_gram/skip_gram_kernels.h"

namespace fastnce::cpu::isa_avx512_bf16 {

#include "cpu/gemm/panels-inl.h"
//
#include "cpu/skip_gram/parts-inl.h"
//
#include "cpu/skip_gram/bfloat16_products-inl.h"
//
#include "cpu/skip_gram/step-inl.h"

extern const TileKernels<float> kOneProduct;
extern const SweepKernels<float> kOneProductSweep;
const TileKernels<float> kOneProduct = kTileKernels<SplitTile<1, Avx512Bf16Multiplier>>;
const SweepKernels<float> kOneProductSweep = kSweepKernels<SplitTile<1, Avx512Bf16Multiplier>>;

extern const SkipGramKernels kOneProductSkipGram;
const SkipGramKernels kOneProductSkipGram = kSkipGramKernels<Bfloat16Products>;

}  // namespace fastnce::cpu::isa_avx512_bf16
