// Calls of handlers as XLA makes them, on the structs of csrc/bindings/jax/xla_ffi.h.
#pragma once

#include <concepts>
#include <cstdint>
#include <deque>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings/jax/xla_ffi.h"

namespace fastnce::bindings::xla {

struct Error {
  ErrorCode code;
  std::string message;
};

}  // namespace fastnce::bindings::xla

namespace fastnce {

namespace xla = bindings::xla;

// As much of XLA's side as handlers on the CPU use, of the newest version: errors.
inline xla::Api xla_side() {
  xla::Api api{};
  api.head.struct_size = sizeof(xla::Api);
  api.version = {xla::head<xla::Version>(), xla::kMajor, xla::kNewestMinor};
  api.error_create = [](xla::ErrorCreate* arguments) { return new xla::Error{arguments->code, arguments->message}; };
  api.error_get_message = [](xla::ErrorGetMessage* arguments) {
    arguments->message = arguments->error->message.c_str();
  };
  api.error_destroy = [](xla::ErrorDestroy* arguments) { delete arguments->error; };
  return api;
}

class XlaCall {
 public:
  using Shape = std::vector<std::int64_t>;

  explicit XlaCall(const xla::Api& api) {
    frame.head = xla::head<xla::CallFrame>();
    frame.api = &api;
    frame.stage = xla::Stage::kExecute;
  }

  template <class T>
  XlaCall& operand(T* data, Shape shape) {
    operands_.push_back(view(data, std::move(shape)));
    return *this;
  }
  // Operands that are left out, and have no elements.
  XlaCall& operands_without_elements(int count) {
    for (int i = 0; i < count; ++i) operand(static_cast<std::int32_t*>(nullptr), {0});
    return *this;
  }
  template <class T>
  XlaCall& result(T* data, Shape shape) {
    results_.push_back(view(data, std::move(shape)));
    return *this;
  }
  XlaCall& attribute(const char* name, std::int64_t value) {
    return scalar(name, xla::ElementType::kInt64, &numbers_.emplace_back(value));
  }
  XlaCall& attribute(const char* name, std::same_as<double> auto value) {
    return scalar(name, xla::ElementType::kFloat64, &reals_.emplace_back(value));
  }
  XlaCall& attribute(const char* name, std::same_as<bool> auto value) {
    return scalar(name, xla::ElementType::kBool, &flags_.emplace_back(value));
  }
  XlaCall& attribute(const char* name, std::string_view value) {
    return add(name, xla::AttributeType::kString, &texts_.emplace_back(value.data(), value.size()));
  }

  // The error, or null.
  std::unique_ptr<xla::Error> error_of(xla::Handler* handler) {
    std::vector<void*> operands, results;
    for (xla::BufferView& buffer : operands_) operands.push_back(&buffer);
    for (xla::BufferView& buffer : results_) results.push_back(&buffer);
    std::vector<xla::ValueType> types(operands.size() + results.size(), xla::ValueType::kBuffer);
    frame.operands = {xla::head<xla::Values>(), std::ssize(operands), types.data(), operands.data()};
    frame.results = {xla::head<xla::Values>(), std::ssize(results), types.data(), results.data()};
    frame.attributes = {xla::head<xla::Attributes>(), std::ssize(names_), attribute_types_.data(), names_.data(),
                        attributes_.data()};
    return std::unique_ptr<xla::Error>(handler(&frame));
  }

  // The error's text, or nothing.
  std::string run(xla::Handler* handler) {
    const auto error = error_of(handler);
    return error == nullptr ? "" : error->message;
  }

  xla::CallFrame frame{};

 private:
  static xla::ElementType type(float) { return xla::ElementType::kFloat32; }
  static xla::ElementType type(double) { return xla::ElementType::kFloat64; }
  static xla::ElementType type(_Float16) { return xla::ElementType::kFloat16; }
  static xla::ElementType type(std::int32_t) { return xla::ElementType::kInt32; }
  static xla::ElementType type(std::int64_t) { return xla::ElementType::kInt64; }
  static xla::ElementType type(std::uint32_t) { return xla::ElementType::kUInt32; }

  template <class T>
  xla::BufferView view(T* data, Shape shape) {
    Shape& dims = shapes_.emplace_back(std::move(shape));
    return {xla::head<xla::BufferView>(), type(T{}), data, std::ssize(dims), dims.data()};
  }
  XlaCall& scalar(const char* name, xla::ElementType type, void* value) {
    return add(name, xla::AttributeType::kScalar, &scalars_.emplace_back(type, value));
  }
  XlaCall& add(const char* name, xla::AttributeType type, void* value) {
    names_.push_back(&texts_.emplace_back(name, std::string_view(name).size()));
    attribute_types_.push_back(type);
    attributes_.push_back(value);
    return *this;
  }

  std::deque<Shape> shapes_;
  std::deque<xla::BufferView> operands_, results_;
  std::deque<std::int64_t> numbers_;
  std::deque<double> reals_;
  std::deque<bool> flags_;
  std::deque<xla::Bytes> texts_;
  std::deque<xla::Scalar> scalars_;
  std::vector<xla::Bytes*> names_;
  std::vector<xla::AttributeType> attribute_types_;
  std::vector<void*> attributes_;
};

}  // namespace fastnce
