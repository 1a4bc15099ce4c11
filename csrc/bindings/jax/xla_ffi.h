// The C ABI of XLA's foreign function interface (FFI): as much of it as the handlers in jax_*.cpp use.
//
// Decision: the handlers speak this ABI themselves; no build needs jaxlib. The alternative is jaxlib as a build
// requirement, whose headers are included. It costs a download of some 85 MB for each isolated build, and fixes the FFI
// version that handlers report: the headers of jaxlib 0.10 report 0.3, which jaxlib 0.5 to 0.8.0 refuse; those of
// jaxlib 0.5 report 0.1, which XLA promises to accept for 12 months only. One wheel has to work with the jaxlib that is
// installed later, whichever that is.
//
// Evidence: xla/ffi/api/c_api.h of the jaxlib wheels 0.5.0, 0.5.1, 0.5.3, 0.6.0, 0.6.2, 0.7.0, 0.7.2, 0.8.0 to 0.8.3,
// 0.9.0, 0.9.2 and 0.10.0 to 0.10.2. Every struct below has the same layout in all of them. Added at an end were
//   - a type id in Metadata, in 0.8.0: Metadata::struct_size does not count it, and XLA sets it to "no state";
//   - functions in Api: run_id_get in 0.5.1, device_ordinal_get in 0.6.0. Api::struct_size counts up to stream_get
//     before 0.6.0, and up to device_ordinal_get since.
// FFI version 0.1 is that of jaxlib up to 0.8.0, 0.2 begins with 0.8.1, 0.3 with 0.9.2. What 0.2 and 0.3 changed (user
// types and the state of handlers) is not used here.
//
// Registration, observed with jaxlib 0.5.0, 0.7.2, 0.8.0, 0.8.1, 0.9.0, 0.9.2 and 0.10.2: when a backend starts, XLA
// calls the handler with a Metadata extension and compares the version that the handler writes there with its own. Up
// to 0.8.0 it accepts 0.1 alone and passes no Api. Since 0.8.1 it accepts 0.1 up to its own version, which Api says. It
// turns exceptions that a handler throws into its own errors.
//
// Each struct begins with its size, by which the other side sees how many members there are. All of this is for 64-bit
// platforms, where size_t and pointers have 8 bytes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "fastnce/error.h"

namespace fastnce::bindings::xla {

struct Error;    // XLA's own
struct Context;  // of one execution: stream, allocator, device
struct Future;

enum class ErrorCode : std::int32_t { kInvalidArgument = 3, kResourceExhausted = 8, kInternal = 13 };

// XLA's primitive types: those that the handlers know.
enum class ElementType : std::int32_t {
  kBool = 1,
  kInt32 = 4,
  kInt64 = 5,
  kUInt32 = 8,
  kFloat16 = 10,
  kFloat32 = 11,
  kFloat64 = 12,
  kBFloat16 = 16,
};

enum class ValueType : std::int32_t { kBuffer = 1 };  // of an operand or a result
enum class AttributeType : std::int32_t { kArray = 1, kDictionary = 2, kScalar = 3, kString = 4 };
enum class Stage : std::int32_t { kInstantiate = 0, kPrepare = 1, kInitialize = 2, kExecute = 3 };
enum class ExtensionType : std::int32_t { kMetadata = 1 };

struct Extension {
  std::size_t struct_size;
  ExtensionType type;
  Extension* next;
};

// What every struct but the primitives begins with.
struct Head {
  std::size_t struct_size;
  Extension* extensions;
};

struct Version {
  Head head;
  std::int32_t major, minor;
};

struct Metadata {
  std::size_t struct_size;
  Version version;
  std::uint32_t traits;  // bit 0: calls may be captured into a CUDA graph and replayed
};

struct MetadataExtension {
  Extension base;
  Metadata* metadata;
};

struct Bytes {
  const char* data;
  std::size_t size;
};

struct Scalar {
  ElementType type;
  void* value;
};

struct BufferView {
  Head head;
  ElementType type;
  void* data;
  std::int64_t rank;
  std::int64_t* dimensions;
};

// Operands or results.
struct Values {
  Head head;
  std::int64_t size;
  ValueType* types;
  void** values;  // BufferView*
};

// Sorted by name.
struct Attributes {
  Head head;
  std::int64_t size;
  AttributeType* types;
  Bytes** names;
  void** values;  // Scalar* or Bytes*
};

struct ErrorCreate {
  Head head;
  const char* message;
  ErrorCode code;
};

struct ErrorGetMessage {
  Head head;
  Error* error;
  const char* message;  // out; the error's own
};

struct ErrorDestroy {
  Head head;
  Error* error;
};

struct StreamGet {
  Head head;
  Context* context;
  void* stream;  // out; a CUstream
};

struct DeviceOrdinalGet {
  Head head;
  Context* context;
  std::int32_t ordinal;  // out
};

struct MemoryAllocate {
  Head head;
  Context* context;
  std::size_t size, alignment;
  void* data;  // out
};

struct MemoryFree {
  Head head;
  Context* context;
  std::size_t size;
  void* data;
};

using Unused = void (*)();

// XLA's side. Functions return null for success.
struct Api {
  Head head;
  Version version;
  const void* internal;
  Error* (*error_create)(ErrorCreate*);
  void (*error_get_message)(ErrorGetMessage*);
  void (*error_destroy)(ErrorDestroy*);
  Unused handler_register;
  Error* (*stream_get)(StreamGet*);
  Unused type_register, context_get, state_set, state_get;
  Error* (*memory_allocate)(MemoryAllocate*);
  Error* (*memory_free)(MemoryFree*);
  Unused thread_pool_schedule, thread_pool_size, future_create, future_set_available, future_set_error, run_id_get;
  Error* (*device_ordinal_get)(DeviceOrdinalGet*);
};

struct CallFrame {
  Head head;
  const Api* api;  // null in calls for metadata by some versions
  Context* context;
  Stage stage;
  Values operands, results;
  Attributes attributes;
  Future* future;  // out; null: all is done, or queued on the stream, when the handler returns
};

using Handler = Error*(CallFrame*);

// The size that XLA gives a struct: up to the end of its last member, without padding.
template <class Struct>
inline constexpr std::size_t kSize = sizeof(Struct);
template <>
inline constexpr std::size_t kSize<Metadata> = 36;
template <>
inline constexpr std::size_t kSize<ErrorCreate> = 28;
template <>
inline constexpr std::size_t kSize<DeviceOrdinalGet> = 28;
template <>
inline constexpr std::size_t kSize<CallFrame> = 168;  // `future`, which follows, is not counted

inline constexpr std::size_t kApiForErrors = 56;    // Api up to error_create: all that the CPU's handlers call
inline constexpr std::size_t kApiForDevices = 192;  // up to device_ordinal_get: jaxlib 0.6.0 and newer

static_assert(sizeof(std::size_t) == 8 && sizeof(void*) == 8);
static_assert(sizeof(Extension) == 24 && sizeof(MetadataExtension) == 32 &&
              offsetof(MetadataExtension, metadata) == 24);
static_assert(sizeof(Version) == 24 && offsetof(Version, major) == 16 && offsetof(Version, minor) == 20);
static_assert(offsetof(Metadata, version) == 8 && offsetof(Metadata, traits) == 32);
static_assert(sizeof(Bytes) == 16 && sizeof(Scalar) == 16 && offsetof(Scalar, value) == 8);
static_assert(sizeof(BufferView) == 48 && offsetof(BufferView, type) == 16 && offsetof(BufferView, data) == 24 &&
              offsetof(BufferView, rank) == 32 && offsetof(BufferView, dimensions) == 40);
static_assert(sizeof(Values) == 40 && offsetof(Values, size) == 16 && offsetof(Values, values) == 32);
static_assert(sizeof(Attributes) == 48 && offsetof(Attributes, names) == 32 && offsetof(Attributes, values) == 40);
static_assert(offsetof(ErrorCreate, message) == 16 && offsetof(ErrorCreate, code) == 24);
static_assert(sizeof(ErrorGetMessage) == 32 && sizeof(ErrorDestroy) == 24 && sizeof(StreamGet) == 32);
static_assert(offsetof(DeviceOrdinalGet, ordinal) == 24);
static_assert(sizeof(MemoryAllocate) == 48 && offsetof(MemoryAllocate, data) == 40 && sizeof(MemoryFree) == 40);
static_assert(offsetof(Api, version) == 16 && offsetof(Api, error_create) == 48 && offsetof(Api, stream_get) == 80 &&
              offsetof(Api, memory_allocate) == 120 && offsetof(Api, memory_free) == 128 &&
              offsetof(Api, device_ordinal_get) == 184 && sizeof(Api) == kApiForDevices);
static_assert(offsetof(CallFrame, api) == 16 && offsetof(CallFrame, stage) == 32 &&
              offsetof(CallFrame, operands) == 40 && offsetof(CallFrame, results) == 80 &&
              offsetof(CallFrame, attributes) == 120 && offsetof(CallFrame, future) == kSize<CallFrame>);

inline constexpr std::int32_t kMajor = 0, kOldestMinor = 1, kNewestMinor = 3;

// The head of a struct for XLA.
template <class Struct>
Head head() {
  return {kSize<Struct>, nullptr};
}

inline Error* error(const Api& api, ErrorCode code, const char* message) {
  ErrorCreate arguments{head<ErrorCreate>(), message, code};
  return api.error_create(&arguments);
}

// Where XLA asks what the handler is, rather than calls it.
inline MetadataExtension* asked_for_metadata(const CallFrame& frame) {
  const bool asked = frame.head.extensions != nullptr && frame.head.extensions->type == ExtensionType::kMetadata;
  return asked ? reinterpret_cast<MetadataExtension*>(frame.head.extensions) : nullptr;
}

// Why a call cannot be understood, or nothing. `api_size`: as much of Api as the handler calls.
inline std::string incompatibility(const CallFrame& frame, std::size_t api_size) {
  if (frame.head.struct_size < kSize<CallFrame>) {
    return concat("this jaxlib calls handlers with ", frame.head.struct_size, " bytes, and fastnce needs ",
                  kSize<CallFrame>, ": install a newer jax");
  }
  const Api* const api = frame.api;
  if (api == nullptr) return asked_for_metadata(frame) ? "" : "this jaxlib offers handlers no functions";
  if (api->version.major != kMajor || api->version.minor < kOldestMinor) {
    return concat("fastnce knows versions ", kMajor, ".", kOldestMinor, " to ", kMajor, ".", kNewestMinor,
                  " of XLA's foreign function interface, and this jaxlib has ", api->version.major, ".",
                  api->version.minor, ": install another version of jax or of fastnce");
  }
  if (api->head.struct_size < api_size) {
    return concat("this jaxlib offers handlers ", api->head.struct_size, " bytes of functions, and fastnce needs ",
                  api_size,
                  api_size == kApiForDevices ? " on CUDA: install jax 0.6 or newer" : ": install a newer jax");
  }
  return "";
}

// An error for XLA. Where its interface is unknown or absent it is thrown, which XLA turns into an error.
inline Error* refuse(const CallFrame& frame, const std::string& why) {
  const bool known = frame.head.struct_size >= kSize<CallFrame> && frame.api != nullptr &&
                     frame.api->version.major == kMajor && frame.api->head.struct_size >= kApiForErrors;
  if (!known) throw std::runtime_error(why);
  return error(*frame.api, ErrorCode::kInternal, why.c_str());
}

// Answers with the newest version that both sides know, and with 0.1 where XLA does not say which it has.
inline Error* describe(const CallFrame& frame, MetadataExtension& extension) {
  if (extension.base.struct_size < kSize<MetadataExtension> || extension.metadata->struct_size < kSize<Metadata>) {
    return refuse(frame, "this jaxlib asks for too little about handlers: install a newer jax");
  }
  Metadata& metadata = *extension.metadata;
  const std::int32_t minor = frame.api == nullptr ? kOldestMinor : std::min(frame.api->version.minor, kNewestMinor);
  metadata.version = {head<Version>(), kMajor, minor};
  metadata.traits = 0;  // not for CUDA graphs: the sampler reads its key on the host
  return nullptr;
}

}  // namespace fastnce::bindings::xla
