#include "bindings/ops/cuda_call.h"

#include <algorithm>
#include <exception>
#include <ranges>
#include <utility>

#include "bindings/arrays/without_gil.h"
#include "fastnce/error.h"

namespace fastnce::bindings {

namespace {

constexpr std::uintptr_t kWorkspaceAlignment = 256;

const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kFloat32: return "float32";
    case DType::kFloat64: return "float64";
    case DType::kFloat16: return "float16";
    case DType::kBFloat16: break;
  }
  return "bfloat16";
}

}  // namespace

cuda::Stream stream_of(py::handle device) {
  return {.device = device.attr("index").cast<int>(),
          .handle = reinterpret_cast<void*>(device.attr("stream").cast<std::uintptr_t>())};
}

Place place_on(const cuda::Stream& stream, const char* decided_by) {
  // CUDA's own names for the legacy and the per-thread default stream, 1 and 2, are DLPack's, too.
  const std::int64_t number = stream.handle == nullptr ? 1 : reinterpret_cast<std::int64_t>(stream.handle);
  return {.decided_by = decided_by, .device = {dl::kCuda, stream.device}, .stream = number};
}

CudaCall::CudaCall(py::handle device, const cuda::Stream& stream)
    : device_(py::reinterpret_borrow<py::object>(device)), stream_(stream), waits_(device.attr("waits").cast<bool>()) {}

CudaCall::~CudaCall() {
  try {
    finish();
  } catch (const std::exception&) {  // the device can run nothing, and the caller has an error to report
  }
}

CudaCall::Output CudaCall::empty(const char* dtype, const std::vector<std::int64_t>& shape) const {
  py::tuple extents(shape.size());
  for (std::size_t i = 0; i < shape.size(); ++i) extents[i] = shape[i];
  const py::tuple made(device_.attr("empty")(dtype, extents));
  const bool no_elements = std::ranges::find(shape, 0) != shape.end();
  return {made[0], no_elements ? nullptr : reinterpret_cast<void*>(made[1].cast<std::uintptr_t>())};
}

CudaCall::Output CudaCall::empty(DType dtype, const std::vector<std::int64_t>& shape) const {
  return empty(dtype_name(dtype), shape);
}

cuda::Workspace CudaCall::workspace(std::size_t bytes) {
  void* const data = temporary<void>("uint8", static_cast<std::int64_t>(bytes));
  if (reinterpret_cast<std::uintptr_t>(data) % kWorkspaceAlignment != 0) {
    throw InvalidValue(concat("the allocator of the device's framework gave memory at ", data,
                              ": expected alignment to ", kWorkspaceAlignment, " bytes"));
  }
  return {data, bytes};
}

const std::int64_t* CudaCall::ids(Array array, std::int64_t columns) {
  if (array.type.code != dl::kInt && array.type.code != dl::kUInt) {
    throw InvalidType(concat(array.name, " has dtype ", array.type_name(), ": expected integers"));
  }
  const Array& ids = borrowed_.emplace_back(std::move(array));
  const std::int64_t rows = ids.shape[0];
  if (rows * columns == 0) return nullptr;
  const bool wide = ids.type.bits == 64 && ids.type.code == dl::kInt;
  if (wide && is_compact(ids.shape, ids.strides)) return reinterpret_cast<const std::int64_t*>(ids.data);
  auto* const copy = temporary<std::int64_t>("int64", rows * columns);
  cuda::copy_ids({.data = ids.data,
                  .bytes = ids.type.bits / 8,
                  .is_signed = ids.type.code == dl::kInt,
                  .rows = rows,
                  .columns = columns,
                  .row_stride = ids.strides[0],
                  .column_stride = ids.rank() == 2 ? ids.strides[1] : 0},
                 copy, stream_);
  return copy;
}

const float* CudaCall::floats(Array array, std::span<const std::int64_t> shape, const char* expected) {
  return reinterpret_cast<const float*>(numbers(std::move(array), DType::kFloat32, shape, expected));
}

const double* CudaCall::doubles(Array array, std::span<const std::int64_t> shape, const char* expected) {
  return reinterpret_cast<const double*>(numbers(std::move(array), DType::kFloat64, shape, expected));
}

const std::byte* CudaCall::numbers(Array array, DType dtype, std::span<const std::int64_t> shape,
                                   const char* expected) {
  const Array& values = borrowed_.emplace_back(std::move(array));
  if (values.type.code != dl::kFloat || values.type.bits != 8 * element_bytes(dtype)) {
    throw InvalidType(
        concat(values.name, " has dtype ", values.type_name(), ": expected ", dtype_name(dtype), " on a CUDA device"));
  }
  if (!std::ranges::equal(values.shape, shape)) {
    throw InvalidValue(concat(values.name, " has shape ", values.shape_text(), ": expected ", expected, " = ",
                              shape_text(shape), " on a CUDA device"));
  }
  const bool no_elements = std::ranges::find(shape, 0) != shape.end();
  if (!no_elements && !is_compact(values.shape, values.strides)) {
    throw InvalidValue(concat(values.name, " is not contiguous: expected contiguous memory on a CUDA device"));
  }
  return no_elements ? nullptr : values.data;
}

void CudaCall::finish() {
  if (!waits_) return;
  const WithoutGil released;
  cuda::synchronize(stream_);
  waits_ = false;
}

}  // namespace fastnce::bindings
