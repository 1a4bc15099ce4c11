// What a file of this folder that multiplies bfloat16 parts compiles. Before including it, the file defines
//   FASTNCE_ISA_NAMESPACE  a namespace of its own,
//   FASTNCE_ISA_ROUND      the file with rounded_pairs(), and
//   FASTNCE_ISA_MULTIPLIER the file with its multiplier.
#include <cstdint>
#include <utility>

#include "cpu/all_classes/sweep_kernels.h"
#include "cpu/loss/loss_kernels.h"
#include "math/loss/logistic.h"
#include "math/loss/softmax.h"

namespace fastnce::cpu::FASTNCE_ISA_NAMESPACE {

constexpr int kVectorBytes = 64;

#include "cpu/gemm/simd-inl.h"
//
#include "cpu/gemm/element_types-inl.h"
//
#include "cpu/gemm/tile-inl.h"
//
#include "cpu/rows/table_rows-inl.h"
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
#include "cpu/all_classes/sweep-inl.h"
//
#include "cpu/all_classes/evaluate-inl.h"
//
#include "cpu/all_classes/full_losses-inl.h"
//
#include "cpu/all_classes/sweep_kernels-inl.h"
//
#include FASTNCE_ISA_ROUND
//
#include "cpu/gemm/split-inl.h"
//
#include FASTNCE_ISA_MULTIPLIER
//
#include "cpu/gemm/split_tile-inl.h"

}  // namespace fastnce::cpu::FASTNCE_ISA_NAMESPACE
