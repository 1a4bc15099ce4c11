// DLPack: the C structures by which array libraries exchange memory, and how a capsule is consumed.
//
// Both generations are read: "dltensor" (before 1.0: no version, no flags) and "dltensor_versioned" (major version 1).
// Consuming renames the capsule to "used_..." and makes us call its deleter exactly once, when the lease ends.
// Libraries with DLPack's table of C functions (1.3) export through that, some twenty times as fast, if no
// synchronisation is needed.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <string>

namespace fastnce::bindings {

namespace py = pybind11;

// The ABI of dlpack.h, version 1; the layout is fixed by the standard.
namespace dl {

enum DeviceType : std::int32_t { kCpu = 1, kCuda = 2 };
enum TypeCode : std::uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBfloat = 4, kComplex = 5, kBool = 6 };

struct Device {
  std::int32_t type;
  std::int32_t id;
};

struct DataType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  std::int32_t ndim;
  DataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements; null: compact, row-major
  std::uint64_t byte_offset;
};

struct ManagedTensor {
  Tensor tensor;
  void* manager_context;
  void (*deleter)(ManagedTensor*);
};

struct Version {
  std::uint32_t major;
  std::uint32_t minor;
};

struct ManagedTensorVersioned {
  Version version;
  void* manager_context;
  void (*deleter)(ManagedTensorVersioned*);
  std::uint64_t flags;
  Tensor tensor;
};

// The head of the table of C functions that a type may have.
struct ExchangeApi {
  Version version;
  ExchangeApi* previous;  // of an older major version, or null
  void (*managed_tensor_allocator)();
  void (*managed_tensor_from_object)();
  void (*managed_tensor_to_object)();
  // Borrows: 0, or -1 with a Python error set. Shape and strides are the object's own.
  int (*tensor_from_object)(void* object, Tensor* tensor);  // may be null
};

}  // namespace dl

// Where an operation runs and where its arrays must be.
struct Place {
  const char* decided_by;  // the argument whose device it is, for messages
  dl::Device device = {dl::kCpu, 0};
  std::int64_t stream = 0;  // on a CUDA device: the stream, as DLPack numbers them
};

// An imported tensor. The lease must end while the GIL is held: deleters may run Python code.
struct Lease {
  dl::Tensor tensor;
  std::shared_ptr<void> end;  // its deleter is the producer's, or lets go of the producer
};

// Whether an error that an argument raised says that the argument is unusable: not a lack of memory, not an interrupt.
bool is_about_the_argument(const py::error_already_set& error);

// " is an int", for messages about an argument of the wrong type.
std::string is_a(py::handle object);

// Throws InvalidType for a JAX array or TensorFlow tensor that is being traced.
void refuse_traced(py::handle object, const char* name);

// Throws InvalidValue for a TensorFlow tensor whose gradient would silently be None, because a tape watches it and
// records TensorFlow's own operations only; InvalidType for a tf.Variable. For arguments that have a gradient.
void refuse_recorded(py::handle object, const char* name);

// "cuda:0", in DLPack's words.
std::string device_name(dl::Device device);

// Where an argument lies: what a DLPack producer or capsule says, else the CPU. Throws InvalidType for a producer whose
// answer is no device.
dl::Device device_of(py::handle object, const char* name);

// Throws InvalidValue unless an argument on `device` is where it must be.
void require_place(dl::Device device, const char* name, const Place& place);

// Leases the tensor in a DLPack capsule. `name` is the argument, for messages. Throws InvalidValue for a capsule that
// was consumed before, is of another major version or holds data elsewhere, InvalidType for one that is not DLPack's.
Lease consume_capsule(py::handle capsule, const char* name, const Place& place);

// Asks `producer.__dlpack__()` for a capsule, newest protocol first, and leases it. On a CUDA device the producer makes
// the place's stream wait for what it has queued on the data. Throws InvalidValue if the data is elsewhere or if the
// producer refuses.
Lease lease_from_producer(py::handle producer, const char* name, const Place& place);

}  // namespace fastnce::bindings
