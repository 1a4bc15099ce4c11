// What the handlers for XLA's foreign function interface share: how they read a call, and how they report errors.
//
// JAX has int64 only where jax_enable_x64 is set. So ids come in as int32 or int64, and go out as the 64-bit words that
// the core writes, whatever XLA calls them: int64 [n], or int32 [n, 2], of which python/fastnce/jax takes the low
// halves. A result without elements was not asked for and is not computed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "bindings/jax/xla_ffi.h"
#include "fastnce/cuda.h"
#include "fastnce/error.h"
#include "fastnce/types.h"

namespace fastnce::bindings::jax {

using xla::ElementType;

// Defined in jax_loss.cpp, jax_sampler.cpp, jax_rows.cpp, jax_optimizer.cpp and jax_evaluate.cpp.
extern xla::Handler* const kLossOnCpu;
extern xla::Handler* const kLossOnCuda;
extern xla::Handler* const kSamplerOnCpu;
extern xla::Handler* const kSamplerOnCuda;
extern xla::Handler* const kSetRowsOnCpu;
extern xla::Handler* const kUpdateRowsOnCpu;
extern xla::Handler* const kUpdateRowsOnCuda;
extern xla::Handler* const kTopKOnCpu;
extern xla::Handler* const kRanksOnCpu;

// An operand or a result. Python checked shapes and dtypes; what is read or written is checked again here, because a
// mismatch would corrupt memory.
class Buffer {
 public:
  explicit Buffer(const xla::BufferView& view) : view_(&view) {}

  ElementType type() const { return view_->type; }
  void* data() const { return view_->data; }

  std::int64_t dimension(std::int64_t axis) const {
    if (axis >= view_->rank) throw InvalidValue(concat("an array of rank ", view_->rank, ": expected more dimensions"));
    return view_->dimensions[axis];
  }

  std::int64_t rank() const { return view_->rank; }

  std::size_t elements() const {
    std::size_t count = 1;
    for (std::int64_t axis = 0; axis < view_->rank; ++axis) count *= static_cast<std::size_t>(view_->dimensions[axis]);
    return count;
  }

  std::size_t element_bytes() const {
    switch (type()) {
      case ElementType::kBool: return 1;
      case ElementType::kFloat16:
      case ElementType::kBFloat16: return 2;
      case ElementType::kInt32:
      case ElementType::kUInt32:
      case ElementType::kFloat32: return 4;
      case ElementType::kInt64:
      case ElementType::kFloat64: return 8;
    }
    throw InvalidType(concat("an array of XLA's type ", static_cast<int>(type()), ", which no handler takes"));
  }

  std::size_t bytes() const { return elements() * element_bytes(); }

  // Null where there are no elements.
  void* wanted() const { return elements() > 0 ? data() : nullptr; }

 private:
  const xla::BufferView* view_;
};

inline DType dtype_of(const Buffer& buffer) {
  switch (buffer.type()) {
    case ElementType::kFloat32: return DType::kFloat32;
    case ElementType::kFloat64: return DType::kFloat64;
    case ElementType::kFloat16: return DType::kFloat16;
    case ElementType::kBFloat16: return DType::kBFloat16;
    default: throw InvalidType("expected float32, float64, float16 or bfloat16");
  }
}

inline bool is_int64(const Buffer& buffer) {
  if (buffer.type() == ElementType::kInt64) return true;
  if (buffer.type() == ElementType::kInt32) return false;
  throw InvalidType("expected ids of int32 or int64");
}

inline void require_extent(const Buffer& buffer, const char* name, std::size_t elements, DType dtype) {
  if (buffer.elements() != elements) {
    throw InvalidValue(concat(name, " has ", buffer.elements(), " elements: expected ", elements));
  }
  if (dtype_of(buffer) != dtype) throw InvalidType(concat(name, " has another dtype than was expected"));
}

// The same for a result that may be left out.
inline void require_extent_or_nothing(const Buffer& buffer, const char* name, std::size_t elements, DType dtype) {
  if (buffer.elements() != 0) require_extent(buffer, name, elements, dtype);
}

inline std::int64_t* id_words(const Buffer& buffer) { return static_cast<std::int64_t*>(buffer.wanted()); }

// A call as XLA describes it: operands and results in their order, attributes by name.
class Call {
 public:
  Call(const xla::CallFrame& frame, std::int64_t operands, std::int64_t results) : frame_(frame) {
    require_count("operands", frame.operands, operands);
    require_count("results", frame.results, results);
  }

  const xla::CallFrame& frame() const { return frame_; }
  Buffer operand(std::int64_t i) const { return buffer(frame_.operands, i); }
  Buffer result(std::int64_t i) const { return buffer(frame_.results, i); }
  bool has(std::string_view name) const {
    const xla::Attributes& attributes = frame_.attributes;
    for (std::int64_t i = 0; i < attributes.size; ++i) {
      if (std::string_view(attributes.names[i]->data, attributes.names[i]->size) == name) return true;
    }
    return false;
  }
  std::int64_t integer(std::string_view name) const { return scalar<std::int64_t>(name, ElementType::kInt64); }
  double number(std::string_view name) const { return scalar<double>(name, ElementType::kFloat64); }
  bool flag(std::string_view name) const { return scalar<bool>(name, ElementType::kBool); }

  std::string_view text(std::string_view name) const {
    const auto& bytes = *static_cast<const xla::Bytes*>(attribute(name, xla::AttributeType::kString));
    return {bytes.data, bytes.size};
  }

 private:
  static void require_count(const char* what, const xla::Values& values, std::int64_t count) {
    if (values.size != count) throw InvalidValue(concat(values.size, " ", what, ": expected ", count));
  }

  static Buffer buffer(const xla::Values& values, std::int64_t i) {
    if (values.types[i] != xla::ValueType::kBuffer) throw InvalidType("expected arrays as operands and results");
    return Buffer(*static_cast<const xla::BufferView*>(values.values[i]));
  }

  template <class T>
  T scalar(std::string_view name, ElementType type) const {
    const auto& scalar = *static_cast<const xla::Scalar*>(attribute(name, xla::AttributeType::kScalar));
    if (scalar.type != type) throw InvalidType(concat("attribute ", name, " has another type than was expected"));
    return *static_cast<const T*>(scalar.value);
  }

  const void* attribute(std::string_view name, xla::AttributeType type) const {
    const xla::Attributes& attributes = frame_.attributes;
    for (std::int64_t i = 0; i < attributes.size; ++i) {
      if (std::string_view(attributes.names[i]->data, attributes.names[i]->size) != name) continue;
      if (attributes.types[i] != type) break;
      return attributes.values[i];
    }
    throw InvalidValue(concat("attribute ", name, " is missing, or of another kind than was expected"));
  }

  const xla::CallFrame& frame_;
};

// Ids in host memory as the core takes them: int64 in place, int32 widened.
class HostIds {
 public:
  explicit HostIds(const Buffer& buffer) {
    if (is_int64(buffer)) {
      ids_ = {static_cast<const std::int64_t*>(buffer.data()), buffer.elements()};
    } else {
      const auto* const narrow = static_cast<const std::int32_t*>(buffer.data());
      widened_.assign(narrow, narrow + buffer.elements());
      ids_ = widened_;
    }
  }
  HostIds(const HostIds&) = delete;
  std::span<const std::int64_t> all() const { return ids_; }

 private:
  std::vector<std::int64_t> widened_;
  std::span<const std::int64_t> ids_;
};

// The handler whose calls `work` does. XLA knows no exceptions of ours: they become its errors.
template <void (*work)(const xla::CallFrame&), std::size_t api_size>
xla::Error* handler(xla::CallFrame* frame) {
  if (const std::string why = xla::incompatibility(*frame, api_size); !why.empty()) return xla::refuse(*frame, why);
  if (xla::MetadataExtension* const extension = xla::asked_for_metadata(*frame))
    return xla::describe(*frame, *extension);
  const auto error = [&](xla::ErrorCode code, const char* text) { return xla::error(*frame->api, code, text); };
  try {
    if (frame->stage != xla::Stage::kExecute) throw InvalidValue("fastnce's handlers have one stage: execute");
    work(*frame);
    return nullptr;
  } catch (const std::invalid_argument& invalid) {  // InvalidValue, InvalidType
    return error(xla::ErrorCode::kInvalidArgument, invalid.what());
  } catch (const std::bad_alloc&) {
    return error(xla::ErrorCode::kResourceExhausted, "fastnce: no memory left");
  } catch (const std::exception& other) {
    return error(xla::ErrorCode::kInternal, other.what());
  }
}

template <void (*work)(const xla::CallFrame&)>
inline constexpr xla::Handler* kOnCpu = handler<work, xla::kApiForErrors>;
template <void (*work)(const xla::CallFrame&)>
inline constexpr xla::Handler* kOnCuda = handler<work, xla::kApiForDevices>;

}  // namespace fastnce::bindings::jax
