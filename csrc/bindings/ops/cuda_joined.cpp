// Two arrays on a CUDA device, one after the other in new memory of the framework.
#include <algorithm>
#include <deque>

#include "bindings/ops/cuda.h"
#include "bindings/ops/cuda_call.h"
#include "fastnce/cuda.h"
#include "fastnce/error.h"

namespace fastnce::bindings {

namespace {

struct Part {
  py::handle object;
  const char* name;
  std::int64_t rows;
};

bool is_integer(const Array& array) { return array.type.code == dl::kInt || array.type.code == dl::kUInt; }

// Of a number for each row.
void require_one_each(const Array& array, std::int64_t rows) {
  if (array.rank() == 1 && array.shape[0] == rows) return;
  throw InvalidValue(
      concat(array.name, " has shape ", array.shape_text(), ": expected one for each item, [", rows, "]"));
}

// Of rows, or of numbers other than ids.
DType element_type(const Array& array) {
  if (array.rank() == 1 && (array.type.code != dl::kFloat || array.type.bits != 32)) {
    throw InvalidType(concat(array.name, " has dtype ", array.type_name(), ": expected float32 on a CUDA device"));
  }
  return floating_type(array);
}

CudaCall::Output join_ids(const std::deque<Array>& arrays, std::int64_t rows, const CudaCall& gpu) {
  const CudaCall::Output joined = gpu.empty("int64", {rows});
  auto* to = static_cast<std::int64_t*>(joined.data);
  for (const Array& array : arrays) {
    if (!is_integer(array)) {
      throw InvalidType(concat(array.name, " has dtype ", array.type_name(), ": expected integers"));
    }
    const std::int64_t count = array.shape[0];
    if (count == 0) continue;
    cuda::copy_ids({.data = array.data,
                    .bytes = array.type.bits / 8,
                    .is_signed = array.type.code == dl::kInt,
                    .rows = count,
                    .columns = 1,
                    .row_stride = array.strides[0]},
                   to, gpu.stream());
    to += count;
  }
  return joined;
}

CudaCall::Output join_rows(const std::deque<Array>& arrays, std::int64_t rows, const CudaCall& gpu) {
  const Array& first = arrays.front();
  const DType dtype = element_type(first);
  std::vector<std::int64_t> shape = first.shape;
  shape[0] = rows;
  const std::int64_t columns = first.rank() == 2 ? shape[1] : 1;
  const CudaCall::Output joined = gpu.empty(dtype, shape);
  auto* to = static_cast<std::byte*>(joined.data);
  for (const Array& array : arrays) {
    if (element_type(array) != dtype) {
      throw InvalidType(concat(array.name, " has dtype ", array.type_name(), ": expected ", first.type_name(),
                               ", as of ", first.name));
    }
    if (array.shape[0] * columns == 0) continue;
    cuda::copy_rows({.data = array.data,
                     .element_bytes = element_bytes(dtype),
                     .rows = array.shape[0],
                     .columns = columns,
                     .row_stride = array.strides[0]},
                    to, gpu.stream());
    to += array.shape[0] * columns * element_bytes(dtype);
  }
  return joined;
}

}  // namespace

py::object cuda_joined(py::handle first, const char* first_name, std::int64_t first_rows, py::handle second,
                       const char* second_name, std::int64_t second_rows, bool matrices, py::handle device) {
  const cuda::Stream stream = stream_of(device);
  const Place place = place_on(stream, "inputs");
  std::deque<Array> arrays;
  CudaCall gpu(device, stream);
  for (const Part& part : {Part{first, first_name, first_rows}, Part{second, second_name, second_rows}}) {
    const Array& array = arrays.emplace_back(matrices ? borrow_differentiable(part.object, part.name, place)
                                                      : borrow_or_convert(part.object, part.name, place));
    matrices ? require_matrix(array, "[N, D]") : require_one_each(array, part.rows);
  }
  const bool are_ids = !matrices && is_integer(arrays.front());
  const std::int64_t rows = first_rows + second_rows;
  const CudaCall::Output joined = are_ids ? join_ids(arrays, rows, gpu) : join_rows(arrays, rows, gpu);
  gpu.finish();
  return joined.array;
}

}  // namespace fastnce::bindings
