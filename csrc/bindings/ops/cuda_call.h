// One call on a CUDA device: its stream, the allocator of the framework that it serves, and arguments in place.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "bindings/arrays/array.h"
#include "fastnce/cuda.h"

namespace fastnce::bindings {

// The stream of a Device of python/fastnce/_devices.py.
cuda::Stream stream_of(py::handle device);

// Where the arguments of a call must be; `decided_by` is the one that the device was found by.
Place place_on(const cuda::Stream& stream, const char* decided_by);

class CudaCall {
 public:
  // To be declared after what the call borrows, which may go back only after the destructor has waited.
  CudaCall(py::handle device, const cuda::Stream& stream);
  CudaCall(const CudaCall&) = delete;
  ~CudaCall();

  const cuda::Stream& stream() const { return stream_; }

  // A new array of the framework, and where its elements are (null if there are none).
  struct Output {
    py::object array;
    void* data;
  };
  Output empty(const char* dtype, const std::vector<std::int64_t>& shape) const;
  Output empty(DType dtype, const std::vector<std::int64_t>& shape) const;

  // Scratch memory of the framework, returned to it when this ends; work queued on the stream until then may use it.
  template <class T>
  T* temporary(const char* dtype, std::int64_t count) {
    return static_cast<T*>(keep(empty(dtype, {count})));
  }
  cuda::Workspace workspace(std::size_t bytes);

  // Arguments, held until this ends. Ids [rows, columns] or [rows], any integers: contiguous int64 is used in place,
  // others are copied.
  const std::int64_t* ids(Array array, std::int64_t columns);
  // Contiguous float32, or float64, of just this shape. Throws InvalidType or InvalidValue for others.
  const float* floats(Array array, std::span<const std::int64_t> shape, const char* expected);
  const double* doubles(Array array, std::span<const std::int64_t> shape, const char* expected);

  // Waits for the work if a framework may reuse memory that it still reads. After an error the destructor does.
  void finish();

 private:
  void* keep(Output output) { return kept_.emplace_back(std::move(output)).data; }
  const std::byte* numbers(Array array, DType dtype, std::span<const std::int64_t> shape, const char* expected);

  py::object device_;
  cuda::Stream stream_;
  bool waits_;
  std::deque<Output> kept_;
  std::deque<Array> borrowed_;
};

}  // namespace fastnce::bindings
