// The tests' version of csrc/cuda/runtime.cu: one device, whose memory is the host's and whose streams are done at
// once.
#include "cuda/runtime.h"

#include <cstdlib>
#include <cstring>
#include <utility>

#include "fastnce/error.h"

namespace fastnce::cuda::runtime {

namespace {

FaultRecord fault;

}  // namespace

void require(int error) {
  if (error != 0) throw DeviceError(concat("emulated CUDA reports error ", error));
}

std::string unavailable_reason() { return ""; }
int device_count() { return 1; }
Device properties(int) { return {"emulated on the host", kLeastCapability, 0, 4, std::int64_t{1} << 30}; }

// So small a cache that batches of a few hundred examples come in several chunks.
Limits limits(int) { return {4, 400 * 1024}; }

CurrentDevice::CurrentDevice(int device) : device_(device), previous_(device) {}
CurrentDevice::~CurrentDevice() = default;

void* allocate(std::size_t bytes, const Stream&) {
  constexpr std::size_t kAlignment = 256;
  const std::size_t whole = (bytes + kAlignment) / kAlignment * kAlignment;
  return std::memset(std::aligned_alloc(kAlignment, whole), 0xFF, whole);  // NaN
}

void release(void* memory, const Stream&) { std::free(memory); }
std::int64_t read(const std::int64_t* value, const Stream&) { return *value; }
void wait_for(const Stream&, const Stream&) {}
void fill_bytes(void* memory, int value, std::size_t bytes, const Stream&) {
  if (bytes > 0) std::memset(memory, value, bytes);
}

FaultRecord* fault_record() { return &fault; }
FaultRecord take_fault_record() { return std::exchange(fault, {}); }

}  // namespace fastnce::cuda::runtime
