// The tests' version of csrc/cuda/runtime/runtime.cu: one device, whose memory is the host's.
#include "cuda/runtime/runtime.h"

#include <atomic>
#include <cstring>
#include <iterator>
#include <utility>

#include "fastnce/error.h"
#include "memory.h"

namespace fastnce::cuda::runtime {

namespace {

FaultRecord fault;

}  // namespace

void require(int error) {
  if (error != 0) throw DeviceError(concat("emulated CUDA reports error ", error));
}

bool built() { return true; }
std::string unavailable_reason() { return ""; }
int device_count() { return 1; }
Device properties(int) { return {"emulated on the host", kLeastCapability, 0, 4, std::int64_t{1} << 30}; }

Limits limits(int) { return emulated::limits; }

CurrentDevice::CurrentDevice(int device) : device_(device), previous_(device) {}
CurrentDevice::~CurrentDevice() = default;

void* allocate(std::size_t bytes, const Stream& stream) { return emulated::allocate(bytes, stream); }
void release(void* memory, const Stream& stream) { emulated::release(memory, stream); }

std::int64_t read(const std::int64_t* value, const Stream& stream) {
  const emulated::Work work("read", stream);
  emulated::access_global(value, sizeof *value, emulated::Access::kRead);
  emulated::synchronize(stream);
  return *value;
}

void wait_for(const Stream& waiting, const Stream& producing) { emulated::wait_for(waiting, producing); }
void synchronize(const Stream& stream) { emulated::synchronize(stream); }
void synchronize_device() { emulated::synchronize(); }

void copy_to_device(void* to, const void* from, std::size_t bytes, const Stream& stream) {
  const emulated::Work work("copy_to_device", stream);
  emulated::access_global(to, bytes, emulated::Access::kWrite);
  std::memcpy(to, from, bytes);
}

void fill_bytes(void* memory, int value, std::size_t bytes, const Stream& stream) {
  if (bytes == 0) return;
  const emulated::Work work("fill_bytes", stream);
  emulated::access_global(memory, bytes, emulated::Access::kWrite);
  std::memset(memory, value, bytes);
}

// Another one each time: nothing orders the work beside two calls.
Stream take_side_stream(const Stream& beside) {
  static char handles[4];
  static std::atomic<unsigned> taken = 0;
  return {beside.device, &handles[taken++ % std::size(handles)]};
}
void give_side_stream_back(const Stream&) noexcept {}

FaultRecord* fault_record() {
  static const bool lent = (emulated::lend(&fault, sizeof fault), true);
  return lent ? &fault : nullptr;
}

FaultRecord take_fault_record() {
  emulated::synchronize();
  return std::exchange(fault, {});
}

}  // namespace fastnce::cuda::runtime
