#include "bindings/arrays/array.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

#include "fastnce/config.h"
#include "fastnce/error.h"

namespace fastnce::bindings {

namespace {

std::int64_t element_bytes(dl::DataType type) { return type.bits / 8; }

Array borrow_numpy(const py::array& source, const char* name) {
  const py::dtype dtype = source.dtype();
  if (std::string_view(Py_TYPE(source.ptr())->tp_name) != "numpy.ndarray" &&
      py::isinstance(source, py::module_::import("numpy").attr("ma").attr("MaskedArray"))) {
    throw InvalidType(concat(name, " is a masked array, whose mask would be lost: expected a plain array"));
  }
  const char kind = dtype.kind();
  const bool bfloat16 = kind == 'V' && py::str(dtype).cast<std::string>() == "bfloat16";  // of the package ml_dtypes
  if (kind != 'f' && kind != 'i' && kind != 'u' && kind != 'b' && !bfloat16) {
    throw InvalidType(
        concat(name, " has dtype ", py::str(dtype).cast<std::string>(), ": expected an array of plain numbers"));
  }
  const char order = dtype.byteorder();
  if (order != '=' && order != '|' && !dtype.attr("isnative").cast<bool>()) {
    throw InvalidType(concat(name, " has byte-swapped dtype ", py::str(dtype.attr("str")).cast<std::string>(),
                             ": expected native byte order"));
  }
  const dl::TypeCode code = bfloat16      ? dl::kBfloat
                            : kind == 'f' ? dl::kFloat
                            : kind == 'i' ? dl::kInt
                            : kind == 'u' ? dl::kUInt
                                          : dl::kBool;
  const std::int64_t bytes = dtype.itemsize();
  Array array{.name = name,
              .data = static_cast<const std::byte*>(source.data()),
              .type = {code, static_cast<std::uint8_t>(bytes * 8), 1},
              .device = {dl::kCpu, 0},
              .shape = {source.shape(), source.shape() + source.ndim()},
              .strides = {},
              .owner = source,
              .lease = nullptr};
  for (std::int64_t i = 0; i < array.rank(); ++i) {
    if (array.shape[i] > 1 && source.strides(i) % bytes != 0) {
      throw InvalidValue(concat(name, " has a stride of ", source.strides(i), " bytes on axis ", i,
                                ": expected a multiple of its item size, ", bytes));
    }
    array.strides.push_back(source.strides(i) / bytes);
  }
  return array;
}

Array borrow_lease(Lease lease, const char* name) {
  const dl::Tensor& tensor = lease.tensor;
  const dl::DataType type = tensor.dtype;
  if (type.lanes != 1 || type.bits == 0 || type.bits % 8 != 0) {
    throw InvalidType(concat(name, " has a DLPack dtype of ", int{type.bits}, " bits and ", type.lanes,
                             " lanes: expected whole bytes and one lane"));
  }
  const bool has_shape = tensor.ndim == 0 || tensor.shape != nullptr;
  if (tensor.ndim < 0 || !has_shape ||
      std::any_of(tensor.shape, tensor.shape + tensor.ndim, [](std::int64_t extent) { return extent < 0; })) {
    throw InvalidValue(concat(name, " is a malformed DLPack tensor: expected a shape of extents of at least 0"));
  }
  Array array{.name = name,
              .data = static_cast<const std::byte*>(tensor.data) + (tensor.data != nullptr ? tensor.byte_offset : 0),
              .type = type,
              .device = tensor.device,
              .shape = {tensor.shape, tensor.shape + tensor.ndim},
              .strides = {},
              .owner = {},
              .lease = std::move(lease.end)};
  if (tensor.strides != nullptr) {
    array.strides.assign(tensor.strides, tensor.strides + tensor.ndim);
  } else {
    array.strides.assign(static_cast<std::size_t>(tensor.ndim), 1);
    for (std::int32_t i = tensor.ndim - 2; i >= 0; --i) array.strides[i] = array.strides[i + 1] * array.shape[i + 1];
  }
  return array;
}

bool is_empty(const Array& array) { return std::ranges::find(array.shape, 0) != array.shape.end(); }

void require_usable(const Array& array) {
  if (is_empty(array)) return;
  if (array.data == nullptr) throw InvalidValue(concat(array.name, " has elements but no memory: expected real data"));
  if (reinterpret_cast<std::uintptr_t>(array.data) % element_bytes(array.type) != 0) {
    throw InvalidValue(concat(array.name, " is not aligned to its ", element_bytes(array.type),
                              "-byte elements: expected an aligned array; copy it first"));
  }
}

// The upper half of a float32.
struct BFloat16 {
  std::uint16_t bits;
  explicit operator float() const { return std::bit_cast<float>(std::uint32_t{bits} << 16); }
  explicit operator double() const { return static_cast<float>(*this); }
};

// Calls visit(offset) for every element in row-major order of `shape`.
template <class Visit>
void for_each_offset(std::span<const std::int64_t> shape, std::span<const std::int64_t> strides, std::int64_t offset,
                     const Visit& visit) {
  if (shape.empty()) return visit(offset);
  for (std::int64_t i = 0; i < shape[0]; ++i) {
    for_each_offset(shape.subspan(1), strides.subspan(1), offset + i * strides[0], visit);
  }
}

template <class From, class To, class Check>
void convert(const Array& array, std::span<const std::int64_t> shape, std::span<const std::int64_t> strides,
             std::vector<To>& to, const Check& check) {
  const auto* from = reinterpret_cast<const From*>(array.data);
  if constexpr (std::is_same_v<From, To>) {  // nothing that it checks can fail: ids of many groups of samples
    if (is_compact(shape, strides)) return to.assign(from, from + count(shape));
  }
  for_each_offset(shape, strides, 0, [&](std::int64_t offset) {
    check(from[offset]);
    to.push_back(static_cast<To>(from[offset]));
  });
}

constexpr int type_id(int code, int bits) { return code * 256 + bits; }

// Calls convert for the array's element type; false if it is no integer.
template <class To, class Check>
bool convert_integers(const Array& array, std::span<const std::int64_t> shape, std::span<const std::int64_t> strides,
                      std::vector<To>& to, const Check& check) {
  const auto from = [&]<class From>(From) {
    convert<From>(array, shape, strides, to, check);
    return true;
  };
  switch (type_id(array.type.code, array.type.bits)) {
    case type_id(dl::kInt, 8): return from(std::int8_t{});
    case type_id(dl::kInt, 16): return from(std::int16_t{});
    case type_id(dl::kInt, 32): return from(std::int32_t{});
    case type_id(dl::kInt, 64): return from(std::int64_t{});
    case type_id(dl::kUInt, 8): return from(std::uint8_t{});
    case type_id(dl::kUInt, 16): return from(std::uint16_t{});
    case type_id(dl::kUInt, 32): return from(std::uint32_t{});
    case type_id(dl::kUInt, 64): return from(std::uint64_t{});
    default: return false;
  }
}

// The same for floating point.
template <class To>
bool convert_floats(const Array& array, std::span<const std::int64_t> shape, std::span<const std::int64_t> strides,
                    std::vector<To>& to) {
  const auto from = [&]<class From>(From) {
    convert<From>(array, shape, strides, to, [](const From&) {});
    return true;
  };
  switch (type_id(array.type.code, array.type.bits)) {
    case type_id(dl::kFloat, 16): return from(_Float16{});
    case type_id(dl::kBfloat, 16): return from(BFloat16{});
    case type_id(dl::kFloat, 32): return from(float{});
    case type_id(dl::kFloat, 64): return from(double{});
    default: return false;
  }
}

}  // namespace

std::string Array::type_name() const {
  switch (type.code) {
    case dl::kInt: return concat("int", int{type.bits});
    case dl::kUInt: return concat("uint", int{type.bits});
    case dl::kFloat: return concat("float", int{type.bits});
    case dl::kBfloat: return concat("bfloat", int{type.bits});
    case dl::kComplex: return concat("complex", int{type.bits});
    case dl::kBool: return "bool";
    default: return concat("DLPack type ", int{type.code}, " of ", int{type.bits}, " bits");
  }
}

std::string shape_text(std::span<const std::int64_t> shape) {
  std::string list = "[";
  for (const std::int64_t extent : shape) {
    if (list.size() > 1) list += ", ";
    list += std::to_string(extent);
  }
  return list + "]";
}

std::string Array::shape_text() const { return bindings::shape_text(shape); }

std::int64_t count(std::span<const std::int64_t> shape) {
  std::int64_t product = 1;
  for (const std::int64_t extent : shape) product *= extent;
  return product;
}

bool is_compact(std::span<const std::int64_t> shape, std::span<const std::int64_t> strides) {
  std::int64_t expected = 1;
  for (std::size_t i = shape.size(); i-- > 0; expected *= shape[i]) {
    if (shape[i] != 1 && strides[i] != expected) return false;
  }
  return true;
}

Array borrow(py::handle object, const char* name, const Place& place) {
  refuse_traced(object, name);
  Array array = [&] {
    if (py::isinstance<py::array>(object)) {
      require_place({dl::kCpu, 0}, name, place);
      return borrow_numpy(py::reinterpret_borrow<py::array>(object), name);
    }
    if (PyCapsule_CheckExact(object.ptr())) return borrow_lease(consume_capsule(object, name, place), name);
    if (py::hasattr(object, "__dlpack__")) return borrow_lease(lease_from_producer(object, name, place), name);
    throw InvalidType(concat(name, is_a(object),
                             place.device.type == dl::kCpu
                                 ? ": expected a NumPy array or an array that exports __dlpack__"
                                 : concat(": expected an array on device ", device_name(place.device))));
  }();
  require_usable(array);
  return array;
}

Array borrow_differentiable(py::handle object, const char* name, const Place& place) {
  refuse_recorded(object, name);
  return borrow(object, name, place);
}

Array borrow_or_convert(py::handle object, const char* name, const Place& place) {
  refuse_traced(object, name);
  if (py::isinstance<py::array>(object)) {
    const auto source = py::reinterpret_borrow<py::array>(object);
    bool in_place = (source.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
    for (py::ssize_t i = 0; source.itemsize() > 0 && i < source.ndim(); ++i) {
      in_place = in_place && source.strides(i) % source.itemsize() == 0;
    }
    if (in_place || source.itemsize() == 0)
      return borrow(object, name, place);  // no elements to speak of: refused there
    return borrow(py::module_::import("numpy").attr("require")(object, py::none(), "AC"), name, place);
  }
  const bool convertible = PySequence_Check(object.ptr()) || PyNumber_Check(object.ptr());
  if (!convertible || py::hasattr(object, "__dlpack__") || place.device.type != dl::kCpu) {
    return borrow(object, name, place);
  }
  py::object converted;
  try {
    converted = py::module_::import("numpy").attr("asarray")(object);
  } catch (py::error_already_set& error) {
    if (!is_about_the_argument(error)) throw;
    throw InvalidValue(concat(name, " cannot be made an array: ", py::str(error.value()).cast<std::string>()));
  }
  return borrow(converted, name, place);
}

void require_rank(const Array& array, std::int64_t rank, const char* expected) {
  if (array.rank() != rank) {
    throw InvalidValue(concat(array.name, " has shape ", array.shape_text(), " of rank ", array.rank(), ": expected ",
                              expected, " of rank ", rank));
  }
}

DType floating_type(const Array& array) {
  switch (type_id(array.type.code, array.type.bits)) {
    case type_id(dl::kFloat, 32): return DType::kFloat32;
    case type_id(dl::kFloat, 64):
      if (array.device.type == dl::kCpu) return DType::kFloat64;
      throw InvalidType(
          concat(array.name, " has dtype float64: expected float32, float16 or bfloat16, which is what CUDA takes"));
    case type_id(dl::kFloat, 16): return DType::kFloat16;
    case type_id(dl::kBfloat, 16):
    case type_id(dl::kUInt, 16): return DType::kBFloat16;
    default:
      throw InvalidType(concat(array.name, " has dtype ", array.type_name(),
                               ": expected float32, float64, float16 or bfloat16 (also as uint16)"));
  }
}

py::array new_array(DType dtype, std::vector<py::ssize_t> shape) {
  const auto numpy_type = [&] {
    switch (dtype) {
      case DType::kFloat32: return py::dtype::of<float>();
      case DType::kFloat64: return py::dtype::of<double>();
      case DType::kFloat16: return py::dtype("float16");
      case DType::kBFloat16: break;
    }
    return py::dtype::of<std::uint16_t>();
  };
  return py::array(numpy_type(), std::move(shape));
}

namespace {

bool has_contiguous_rows(const Array& matrix) {
  return matrix.shape[1] <= 1 || matrix.shape[0] == 0 || matrix.strides[1] == 1;
}

}  // namespace

void require_matrix(const Array& array, const char* expected) {
  require_rank(array, 2, expected);
  if (!has_contiguous_rows(array)) {
    throw InvalidValue(concat(array.name, " has strides ", shape_text(array.strides),
                              " (in elements): expected contiguous rows, an inner stride of 1; it is used in place"));
  }
}

namespace {

struct Axis {
  std::int64_t extent, stride;
};

// All axes but the last `kept` as one; none if they do not lie at equal distances.
std::optional<Axis> leading_axis(const Array& array, std::int64_t kept) {
  const auto axes = static_cast<std::size_t>(array.rank() - kept);
  const std::int64_t elements = count({array.shape.data(), axes});
  Axis merged{1, 0};
  for (std::size_t i = axes; i-- > 0 && elements > 0;) {
    if (array.shape[i] == 1) continue;
    if (merged.extent > 1 && array.strides[i] != merged.stride * merged.extent) return {};
    if (merged.extent == 1) merged.stride = array.strides[i];
    merged.extent *= array.shape[i];
  }
  merged.extent = elements;
  return merged;
}

}  // namespace

void make_rows_contiguous(Array& array) {
  if (array.rank() < 2) return;
  const bool contiguous = array.shape.back() <= 1 || count(array.shape) == 0 || array.strides.back() == 1;
  if (contiguous && (array.rank() == 2 || leading_axis(array, 1))) return;
  const auto bytes = static_cast<std::size_t>(element_bytes(array.type));
  const std::shared_ptr<std::byte[]> copy(new std::byte[static_cast<std::size_t>(count(array.shape)) * bytes]);
  std::byte* to = copy.get();
  for_each_offset(array.shape, array.strides, 0, [&](std::int64_t offset) {
    std::memcpy(to, array.data + offset * static_cast<std::int64_t>(bytes), bytes);
    to += bytes;
  });
  array.data = copy.get();
  std::int64_t stride = 1;
  for (std::size_t i = array.shape.size(); i-- > 0; stride *= array.shape[i]) array.strides[i] = stride;
  array.owner = {};
  array.lease = copy;
}

void merge_leading_axes(Array& array, std::int64_t kept) {
  if (array.rank() <= kept + 1) return;
  const std::optional<Axis> axis = leading_axis(array, kept);
  if (!axis) {
    throw InvalidValue(concat(array.name, " has strides ", shape_text(array.strides),
                              " (in elements): expected contiguous memory where there are several axes of examples"));
  }
  const auto merged = static_cast<std::ptrdiff_t>(array.rank() - kept);
  array.shape.erase(array.shape.begin(), array.shape.begin() + merged - 1);
  array.strides.erase(array.strides.begin(), array.strides.begin() + merged - 1);
  array.shape.front() = axis->extent;
  array.strides.front() = axis->stride;
}

std::vector<std::int64_t> copy_ids(const Array& array) {
  std::vector<std::int64_t> ids;
  // An empty list has no element type of its own; NumPy makes it float64.
  if (is_empty(array) && array.type.code == dl::kFloat) return ids;
  if (type_id(array.type.code, array.type.bits) == type_id(dl::kInt, 64) && is_compact(array.shape, array.strides)) {
    const auto* const first = reinterpret_cast<const std::int64_t*>(array.data);
    ids.assign(first, first + count(array.shape));
    return ids;
  }
  ids.reserve(static_cast<std::size_t>(count(array.shape)));
  const bool converted = convert_integers(array, array.shape, array.strides, ids, [&](auto value) {
    if (value > 0 && static_cast<std::uint64_t>(value) > std::numeric_limits<std::int64_t>::max()) {
      throw InvalidValue(concat(array.name, " holds ", value, ": expected ids below 2^63"));
    }
  });
  if (!converted) throw InvalidType(concat(array.name, " has dtype ", array.type_name(), ": expected integers"));
  return ids;
}

void require_classes(const Array& classes, std::int64_t batch, std::int64_t num_true) {
  const bool flat = classes.rank() == 1 && num_true == 1;
  if (!flat && classes.rank() != 2) {
    throw InvalidValue(concat(classes.name, " has shape ", classes.shape_text(), " of rank ", classes.rank(),
                              ": expected ", num_true == 1 ? "[B] or [B, 1]" : "[B, num_true]",
                              classes.rank() == 0  ? concat("; one example is ", classes.name, ".reshape(1, -1)")
                              : classes.rank() > 2 ? concat("; reshape to [B, num_true] with num_true = ", num_true)
                                                   : concat(" with num_true = ", num_true)));
  }
  if ((batch >= 0 && classes.shape[0] != batch) || (!flat && classes.shape[1] != num_true)) {
    const std::string expected =
        batch >= 0 ? concat("= [", batch, ", ", num_true, "]") : concat("with num_true = ", num_true);
    throw InvalidValue(
        concat(classes.name, " has shape ", classes.shape_text(), ": expected [B, num_true] ", expected));
  }
}

template <class T>
Values<T>::Values(Array array, std::span<const std::int64_t> shape, const char* expected) : array_(std::move(array)) {
  std::vector<std::int64_t> strides(shape.size(), 0);
  bool fits = array_.shape.size() <= shape.size();
  for (std::size_t i = 1; fits && i <= array_.shape.size(); ++i) {  // from the last axis
    const std::int64_t extent = array_.shape[array_.shape.size() - i];
    fits = extent == 1 || extent == shape[shape.size() - i];
    if (extent != 1) strides[shape.size() - i] = array_.strides[array_.shape.size() - i];
  }
  if (!fits) {
    throw InvalidValue(
        concat(array_.name, " has shape ", array_.shape_text(), ": expected ", expected, " = ", shape_text(shape)));
  }
  const std::int64_t total = count(shape);
  const bool same_type = array_.type.code == dl::kFloat && array_.type.bits == 8 * sizeof(T);
  if (same_type && (total == 0 || is_compact(shape, strides))) {
    values_ = reinterpret_cast<const T*>(array_.data);
    return;
  }
  converted_.reserve(static_cast<std::size_t>(total));
  if (!convert_floats(array_, shape, strides, converted_) &&
      !convert_integers(array_, shape, strides, converted_, [](auto) {})) {
    throw InvalidType(concat(array_.name, " has dtype ", array_.type_name(), ": expected real numbers"));
  }
  values_ = converted_.data();
}

template class Values<float>;
template class Values<double>;

bool boolean(py::handle object, const char* name) {
  if (PyBool_Check(object.ptr())) return object.ptr() == Py_True;
  if (std::string_view(Py_TYPE(object.ptr())->tp_name).starts_with("numpy.bool")) return object.cast<bool>();
  throw InvalidType(concat(name, is_a(object), ": expected a bool"));
}

Precision precision_argument(py::handle object) {
  if (!py::isinstance<py::str>(object)) {
    throw InvalidType(concat("precision", is_a(object), ": expected 'highest', 'high' or 'medium'"));
  }
  return precision_from(object.cast<std::string>(), "precision");
}

std::int64_t integer(py::handle object, const char* name) {
  const auto refuse = [&] { throw InvalidType(concat(name, is_a(object), ": expected an integer")); };
  if (PyBool_Check(object.ptr()) || PyIndex_Check(object.ptr()) == 0) refuse();
  const py::object value = py::reinterpret_steal<py::object>(PyNumber_Index(object.ptr()));
  if (!value) {
    const py::error_already_set error;
    if (!is_about_the_argument(error)) throw error;
    refuse();
  }
  int overflow = 0;
  const std::int64_t result = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
  if (overflow != 0) {
    throw InvalidValue(concat(name, " = ", py::str(value).cast<std::string>(), ": expected an integer ",
                              overflow > 0 ? "of at most 2^63 - 1" : "of at least -2^63"));
  }
  return result;
}

}  // namespace fastnce::bindings
