// What Python callers pass, as plain memory: NumPy arrays, DLPack producers and capsules, nested lists. Rules about
// element types, rank, strides and byte order are here; rules about the problem's shapes are in core/.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bindings/arrays/dlpack.h"
#include "fastnce/types.h"

namespace fastnce::bindings {

namespace py = pybind11;

// A borrowed array of any element type. Valid as long as it lives; must die with the GIL held.
struct Array {
  const char* name;  // the argument
  const std::byte* data;
  dl::DataType type;
  dl::Device device;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;  // in elements
  py::object owner;
  std::shared_ptr<void> lease;

  std::int64_t rank() const { return static_cast<std::int64_t>(shape.size()); }
  std::string type_name() const;   // "float32"
  std::string shape_text() const;  // "[3, 2]"
};

// Borrows a NumPy array, a DLPack producer or a DLPack capsule. Throws InvalidType for anything else, InvalidValue for
// an array on another device than required.
Array borrow(py::handle object, const char* name, const Place& place);

// Borrows weights, biases or inputs, which have gradients. Throws also where TensorFlow would lose those.
Array borrow_differentiable(py::handle object, const char* name, const Place& place);

// Borrows arguments that may be copied: sequences and scalars become NumPy arrays, and arrays that are not aligned
// or lie across other fields are copied.
Array borrow_or_convert(py::handle object, const char* name, const Place& place);

// The number of elements.
std::int64_t count(std::span<const std::int64_t> shape);

// "[3, 2]"
std::string shape_text(std::span<const std::int64_t> shape);

// Whether the elements lie one after the other, in row-major order.
bool is_compact(std::span<const std::int64_t> shape, std::span<const std::int64_t> strides);

// Throws InvalidValue unless the array has this rank; `expected` names the axes, as in "[B, D]".
void require_rank(const Array& array, std::int64_t rank, const char* expected);

// The element type of a table or of the inputs: float32, float64 (on the CPU only), float16, or bfloat16, which may be
// passed as uint16. Throws InvalidType for others.
DType floating_type(const Array& array);

// A new array for results. NumPy has no bfloat16: it comes as uint16.
py::array new_array(DType dtype, std::vector<py::ssize_t> shape);

// A matrix used in place: rank 2, contiguous rows. Throws InvalidValue otherwise: class tables are never copied.
void require_matrix(const Array& array, const char* expected);

// Copies an array [..., D] on the CPU that cannot be used as a matrix of contiguous rows, such as one in Fortran order:
// for inputs, which may be copied.
void make_rows_contiguous(Array& array);

// Makes all axes but the last `kept` one. Throws InvalidValue where they do not lie at equal distances.
void merge_leading_axes(Array& array, std::int64_t kept);

// An int64 copy of any integer array: ids are few, and what was validated must not change while it is used. Throws
// InvalidType for other element types.
std::vector<std::int64_t> copy_ids(const Array& array);

// Classes [B, T] or, for T = 1, [B]. `batch` < 0: any B. Throws InvalidValue for other shapes.
void require_classes(const Array& classes, std::int64_t batch, std::int64_t num_true);

// Contiguous values of type T of an array of real numbers (not bool), broadcast to `shape` by NumPy's rules.
template <class T>
class Values {
 public:
  Values(Array array, std::span<const std::int64_t> shape, const char* expected);
  Values(const Values&) = delete;
  const T* data() const { return values_; }

 private:
  Array array_;
  std::vector<T> converted_;
  const T* values_;
};

// A Python or NumPy bool. Throws InvalidType for other objects.
bool boolean(py::handle object, const char* name);

// "highest", "high" or "medium". Throws InvalidType unless it is a string, InvalidValue for others.
Precision precision_argument(py::handle object);

// A Python integer. Throws InvalidType for other objects, InvalidValue where it does not fit 64 bits.
std::int64_t integer(py::handle object, const char* name);

}  // namespace fastnce::bindings
