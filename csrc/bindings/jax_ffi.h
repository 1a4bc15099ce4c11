// What the handlers for XLA's foreign function interface share. XLA's header is seen by jax_*.cpp alone.
//
// JAX has int64 only where jax_enable_x64 is set. So ids come in as int32 or int64, and go out as the 64-bit words that
// the core writes, whatever XLA calls them: int64 [n], or int32 [n, 2], of which python/fastnce/jax takes the low
// halves. A result without elements is not wanted and not computed.
#pragma once

#include <xla/ffi/api/ffi.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <new>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "fastnce/cuda.h"
#include "fastnce/error.h"
#include "fastnce/types.h"

namespace fastnce::bindings::jax {

namespace ffi = xla::ffi;
using Buffer = ffi::AnyBuffer;
using Result = ffi::Result<ffi::AnyBuffer>;

// Defined in jax_sampled_loss.cpp, jax_sampler.cpp and jax_rows.cpp.
extern XLA_FFI_Handler* const kLossOnCpu;
extern XLA_FFI_Handler* const kLossOnCuda;
extern XLA_FFI_Handler* const kSamplerOnCpu;
extern XLA_FFI_Handler* const kSamplerOnCuda;
extern XLA_FFI_Handler* const kSetRowsOnCpu;

// Runs `work`, for XLA, which knows no exceptions.
template <class Work>
ffi::Error reporting_errors(const Work& work) {
  try {
    work();
    return ffi::Error::Success();
  } catch (const std::invalid_argument& error) {  // InvalidValue, InvalidType
    return ffi::Error::InvalidArgument(error.what());
  } catch (const std::bad_alloc&) {
    return {ffi::ErrorCode::kResourceExhausted, "fastnce: no memory left"};
  } catch (const std::exception& error) {
    return ffi::Error::Internal(error.what());
  }
}

inline DType dtype_of(const Buffer& buffer) {
  switch (buffer.element_type()) {
    case ffi::F32: return DType::kFloat32;
    case ffi::F64: return DType::kFloat64;
    case ffi::F16: return DType::kFloat16;
    case ffi::BF16: return DType::kBFloat16;
    default: throw InvalidType("expected float32, float64, float16 or bfloat16");
  }
}

inline bool is_int64(const Buffer& buffer) {
  if (buffer.element_type() == ffi::S64) return true;
  if (buffer.element_type() == ffi::S32) return false;
  throw InvalidType("expected ids of int32 or int64");
}

// Python has seen to it that buffers fit each other; what they would corrupt if they did not is memory.
inline void require_extent(const Buffer& buffer, const char* name, std::size_t elements, DType dtype) {
  if (buffer.element_count() != elements) {
    throw InvalidValue(concat(name, " has ", buffer.element_count(), " elements: expected ", elements));
  }
  if (dtype_of(buffer) != dtype) throw InvalidType(concat(name, " has another dtype than was expected"));
}

// The same for a result that may be left out.
inline void require_extent_or_nothing(const Buffer& buffer, const char* name, std::size_t elements, DType dtype) {
  if (buffer.element_count() != 0) require_extent(buffer, name, elements, dtype);
}

// Null where there are no elements.
inline void* wanted(const Buffer& buffer) { return buffer.element_count() > 0 ? buffer.untyped_data() : nullptr; }
inline std::int64_t* id_words(const Buffer& buffer) { return static_cast<std::int64_t*>(wanted(buffer)); }

// Ids in host memory as the core takes them: int64 in place, int32 widened.
class HostIds {
 public:
  explicit HostIds(const Buffer& buffer) {
    if (is_int64(buffer)) {
      ids_ = {buffer.typed_data<std::int64_t>(), buffer.element_count()};
    } else {
      const auto* const narrow = buffer.typed_data<std::int32_t>();
      widened_.assign(narrow, narrow + buffer.element_count());
      ids_ = widened_;
    }
  }
  HostIds(const HostIds&) = delete;
  std::span<const std::int64_t> all() const { return ids_; }

 private:
  std::vector<std::int64_t> widened_;
  std::span<const std::int64_t> ids_;
};

// One call on a CUDA device: where its work is queued, and memory for as long as the handler runs, which XLA gives to
// later work on the same stream.
class DeviceCall {
 public:
  DeviceCall(void* stream, std::int32_t device, ffi::ScratchAllocator& scratch)
      : stream_{.device = device, .handle = stream}, scratch_(scratch) {}

  const cuda::Stream& stream() const { return stream_; }

  cuda::Workspace workspace(std::size_t bytes) {
    const auto memory = scratch_.Allocate(bytes, 256);
    if (!memory) throw DeviceError(concat("XLA gave no scratch memory of ", bytes, " bytes"));
    return {*memory, bytes};
  }

  template <class T>
  T* temporary(std::int64_t count) {
    return count > 0 ? static_cast<T*>(workspace(static_cast<std::size_t>(count) * sizeof(T)).data) : nullptr;
  }

  const std::int64_t* ids(const Buffer& buffer) {
    const auto count = static_cast<std::int64_t>(buffer.element_count());
    if (count == 0) return nullptr;
    if (is_int64(buffer)) return buffer.typed_data<std::int64_t>();
    auto* const widened = temporary<std::int64_t>(count);
    cuda::copy_ids({.data = buffer.untyped_data(), .bytes = 4, .rows = count, .columns = 1, .row_stride = 1}, widened,
                   stream_);
    return widened;
  }

 private:
  cuda::Stream stream_;
  ffi::ScratchAllocator& scratch_;
};

}  // namespace fastnce::bindings::jax
