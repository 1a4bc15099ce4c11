// The kernels that update rows of a table: one table per instruction set and element type.
#pragma once

#include <cstdint>

#include "cpu/rows/table_view.h"
#include "cpu/runtime/isa.h"
#include "fastnce/optimizer.h"

namespace fastnce::cpu {

// One table of a call and what its optimizer keeps for it. The table is written to.
template <class T>
struct UpdatedTable {
  TableView table;
  std::int64_t dim;        // 1 for biases
  T* states[kMostStates];  // [V, dim] or, row-wise, [V]
  std::uint32_t number;    // 0 for weights, 1 for biases: each has random bits of its own
  const Optimizer* optimizer;
};

template <class T>
struct UpdateKernels {
  // Rows ids[0], ids[1], ..., all different; the gradient of row i is at gradients + i * dim. `buffer` holds dim
  // elements.
  void (*update)(const UpdatedTable<T>&, const std::int64_t* ids, std::int64_t rows, const T* gradients, T* buffer);
  // sum += row, of another type or of T.
  void (*add_row)(const void* row, DType dtype, std::int64_t dim, T* sum, T* buffer);
};

// As each vector width compiles them.
struct FullPrecisionUpdate {
  UpdateKernels<float> f32;
  UpdateKernels<double> f64;
};

template <class T>
const UpdateKernels<T>& update_kernels(Isa isa);

}  // namespace fastnce::cpu
