// Rows of the class table and of the inputs as warps read them.
#pragma once

#include <cstdint>

#include "cuda/gemm/elements.cuh"
#include "cuda/rows/table.cuh"

namespace fastnce::cuda {

// Vectors of kCount elements of a row.
template <DType kType, int kCount>
struct RowVectors {
  using Vector = Elements<kType, kCount>;
  const void* row;
  std::int64_t dim;

  FASTNCE_DEVICE bool is_aligned() const { return Vector::is_aligned(row); }
  FASTNCE_DEVICE int whole() const { return is_aligned() ? static_cast<int>(dim / kCount) : 0; }  // to load()
  FASTNCE_DEVICE Vector load(int v) const {
    Vector vector;
    vector.load(Vector::at(row, std::int64_t{v} * kCount));
    return vector;
  }
  FASTNCE_DEVICE Vector gather(int v) const {  // zeros beyond the row's end
    Vector vector;
    vector.gather(Vector::at(row, std::int64_t{v} * kCount), dim - std::int64_t{v} * kCount);
    return vector;
  }
};

// Bits of an element; 0 where there are no biases.
FASTNCE_DEVICE std::uint32_t load_bias(const DeviceTable& biases, std::int64_t id) {
  if (biases.num_shards == 0) return 0;
  const Row bias = biases.row(id);
  return load_element(bias.data, bias.dtype, 0);
}

}  // namespace fastnce::cuda
