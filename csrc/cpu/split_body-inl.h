// What an isa_*.cpp that multiplies bfloat16 parts compiles. Before including it, the file defines
//   FASTNCE_ISA_NAMESPACE  a namespace of its own,
//   FASTNCE_ISA_ROUND      the file with rounded_pairs(), and
//   FASTNCE_ISA_MULTIPLIER the file with its multiplier.
#include <cstdint>
#include <utility>

#include "cpu/loss_kernels.h"
#include "math/loss/logistic.h"
#include "math/loss/softmax.h"

namespace fastnce::cpu::FASTNCE_ISA_NAMESPACE {

constexpr int kVectorBytes = 64;

#include "cpu/simd-inl.h"
//
#include "cpu/element_types-inl.h"
//
#include "cpu/tile-inl.h"
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
#include FASTNCE_ISA_ROUND
//
#include "cpu/split-inl.h"
//
#include FASTNCE_ISA_MULTIPLIER
//
#include "cpu/split_tile-inl.h"

}  // namespace fastnce::cpu::FASTNCE_ISA_NAMESPACE
