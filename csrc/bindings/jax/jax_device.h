// A call of a handler on a CUDA device: XLA's stream and its scratch memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <vector>

#include "bindings/jax/jax_ffi.h"

namespace fastnce::bindings::jax {

// Where the work of one call is queued, and memory for as long as the handler runs, which XLA gives to later work on
// the same stream. If the handler fails, XLA is told of no work: then the destructor waits for what is queued, which
// may still use scratch memory, operands and results.
class DeviceCall {
 public:
  explicit DeviceCall(const xla::CallFrame& frame) : frame_(frame) {
    xla::StreamGet stream{xla::head<xla::StreamGet>(), frame.context, nullptr};
    require(frame.api->stream_get(&stream), "XLA gave no stream");
    xla::DeviceOrdinalGet device{xla::head<xla::DeviceOrdinalGet>(), frame.context, 0};
    require(frame.api->device_ordinal_get(&device), "XLA gave no device");
    stream_ = {.device = device.ordinal, .handle = stream.stream};
  }
  DeviceCall(const DeviceCall&) = delete;
  ~DeviceCall() {
    if (std::uncaught_exceptions() > exceptions_) synchronize();
    for (const cuda::Workspace& memory : allocated_) {
      xla::MemoryFree arguments{xla::head<xla::MemoryFree>(), frame_.context, memory.bytes, memory.data};
      text_of(frame_.api->memory_free(&arguments));  // destroys the error; nothing else can be done about it
    }
  }

  const cuda::Stream& stream() const { return stream_; }

  cuda::Workspace workspace(std::size_t bytes) {
    constexpr std::size_t kAlignment = 256;  // of a workspace
    constexpr std::size_t kXlas = 16;        // XLA refuses more
    const std::size_t room = bytes + kAlignment - kXlas;
    xla::MemoryAllocate arguments{xla::head<xla::MemoryAllocate>(), frame_.context, room, kXlas, nullptr};
    allocated_.reserve(allocated_.size() + 1);  // emplace_back must not throw once memory is allocated
    require(frame_.api->memory_allocate(&arguments), concat("XLA gave no scratch memory of ", bytes, " bytes"));
    allocated_.emplace_back(arguments.data, room);
    const std::size_t past = reinterpret_cast<std::uintptr_t>(arguments.data) % kAlignment;
    return {static_cast<std::byte*>(arguments.data) + (past == 0 ? 0 : kAlignment - past), bytes};
  }

  template <class T>
  T* temporary(std::int64_t count) {
    return count > 0 ? static_cast<T*>(workspace(static_cast<std::size_t>(count) * sizeof(T)).data) : nullptr;
  }

  const std::int64_t* ids(const Buffer& buffer) {
    const auto count = static_cast<std::int64_t>(buffer.elements());
    if (count == 0) return nullptr;
    if (is_int64(buffer)) return static_cast<const std::int64_t*>(buffer.data());
    auto* const widened = temporary<std::int64_t>(count);
    cuda::copy_ids({.data = buffer.data(), .bytes = 4, .rows = count, .columns = 1, .row_stride = 1}, widened, stream_);
    return widened;
  }

  // The bits of one number of 4 or 8 bytes, the narrow one sign-extended. Waits for it.
  std::int64_t read_bits(const Buffer& number) {
    if (number.element_bytes() == 8) return cuda::read(static_cast<const std::int64_t*>(number.data()), stream_);
    auto* const widened = temporary<std::int64_t>(1);
    cuda::copy_ids({.data = number.data(), .bytes = 4, .rows = 1, .columns = 1, .row_stride = 1}, widened, stream_);
    return cuda::read(widened, stream_);
  }

 private:
  // The text of an error of XLA's. Destroys the error.
  std::string text_of(xla::Error* error) const {
    if (error == nullptr) return "";
    xla::ErrorGetMessage message{xla::head<xla::ErrorGetMessage>(), error, nullptr};
    frame_.api->error_get_message(&message);
    const std::string text = message.message;
    xla::ErrorDestroy destroy{xla::head<xla::ErrorDestroy>(), error};
    frame_.api->error_destroy(&destroy);
    return text;
  }

  void synchronize() const {
    try {
      cuda::synchronize(stream_);
    } catch (const std::exception&) {  // the device can run nothing, and the handler has an error to report
    }
  }

  void require(xla::Error* error, const std::string& what) const {
    if (error != nullptr) throw DeviceError(concat(what, ": ", text_of(error)));
  }

  const xla::CallFrame& frame_;
  cuda::Stream stream_;
  std::vector<cuda::Workspace> allocated_;
  const int exceptions_ = std::uncaught_exceptions();
};

}  // namespace fastnce::bindings::jax
