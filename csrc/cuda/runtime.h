// What the backend's host code asks of CUDA's runtime. Everything throws DeviceError where CUDA reports an error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "fastnce/cuda.h"

namespace fastnce::cuda::runtime {

// As cuda::unavailable_reason(), for a build that holds the backend.
std::string unavailable_reason();
int device_count();
Device properties(int device);  // asked of the driver once

struct Limits {
  int multiprocessors;
  std::int64_t l2_bytes;
};
Limits limits(int device);

// Makes a device current for its lifetime.
class CurrentDevice {
 public:
  explicit CurrentDevice(int device);
  CurrentDevice(const CurrentDevice&) = delete;
  ~CurrentDevice();

 private:
  int previous_;
};

// As in fastnce/cuda.h; the stream's device must be current.
void* allocate(std::size_t bytes, const Stream& stream);
void release(void* memory, const Stream& stream);
std::int64_t read(const std::int64_t* value, const Stream& stream);
void wait_for(const Stream& waiting, const Stream& producing);
void fill_bytes(void* memory, int value, std::size_t bytes, const Stream& stream);

}  // namespace fastnce::cuda::runtime
