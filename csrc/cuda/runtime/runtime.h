// The backend's interface to the CUDA runtime. Everything throws DeviceError if CUDA reports an error. The tests have a
// second implementation that runs on the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "fastnce/cuda.h"

namespace fastnce::cuda::runtime {

// As in fastnce/cuda.h.
bool built();
std::string unavailable_reason();
int device_count();
Device properties(int device);  // asked of the driver once

// Required by cp.async and by bfloat16 on tensor cores.
inline constexpr int kLeastCapability = 8;
inline bool is_capable(const Device& device) { return device.major >= kLeastCapability; }

struct Limits {
  int multiprocessors;
  std::int64_t l2_bytes;
  std::int64_t shared_bytes;  // shared memory of a multiprocessor
};
Limits limits(int device);

// Throws DeviceError unless `error`, a cudaError_t, is cudaSuccess.
void require(int error);

// Makes a device current for its lifetime.
class CurrentDevice {
 public:
  explicit CurrentDevice(int device);
  CurrentDevice(const CurrentDevice&) = delete;
  ~CurrentDevice();

 private:
  int device_;
  int previous_;
};

// As in fastnce/cuda.h; the stream's device must be current.
void* allocate(std::size_t bytes, const Stream& stream);
void release(void* memory, const Stream& stream);
std::int64_t read(const std::int64_t* value, const Stream& stream);
void wait_for(const Stream& waiting, const Stream& producing);
void synchronize(const Stream& stream);
void synchronize_device();  // the current one
// The host's memory may be released after the call.
void copy_to_device(void* to, const void* from, std::size_t bytes, const Stream& stream);
void fill_bytes(void* memory, int value, std::size_t bytes, const Stream& stream);

// A stream that no one else uses, nor any capture of a CUDA graph but the one that `beside` is in, if it is in one.
Stream take_side_stream(const Stream& beside);
void give_side_stream_back(const Stream& stream) noexcept;

// The first id out of range, or wrong offset, that a kernel found, and how many there were. One per device, in device
// memory.
struct FaultRecord {
  unsigned long long count = 0;
  std::int64_t argument = 0;  // an IdArgument of cuda/runtime/ids.cuh
  std::int64_t index = 0;
  std::int64_t value = 0;
  std::int64_t columns = 0;      // of an argument of rank 2, else 0
  std::int64_t num_classes = 0;  // or, of offsets, how many values they are for
  bool has_padding = false;
  std::int64_t padding = 0;
};
FaultRecord* fault_record();      // where the current device's is
FaultRecord take_fault_record();  // waits for the device, and clears it

}  // namespace fastnce::cuda::runtime
