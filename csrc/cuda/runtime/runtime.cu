#include "cuda/runtime/runtime.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <mutex>
#include <vector>

#include "fastnce/error.h"

namespace fastnce::cuda::runtime {

namespace {

// One per device, allocated when the module is loaded.
__device__ FaultRecord fault_record_on_device;

cudaStream_t native(const Stream& stream) { return static_cast<cudaStream_t>(stream.handle); }

// Asked once: neither drivers nor devices come and go while a process runs.
struct Machine {
  std::string reason;
  std::vector<Device> devices;
  std::vector<Limits> limits;

  Machine() {
    int driver = 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
      cudaGetLastError();
      reason = "no NVIDIA driver was found";
      return;
    }
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0) {
      cudaGetLastError();
      reason = error == cudaErrorInsufficientDriver
                   ? concat("the NVIDIA driver is too old: it supports CUDA ", driver / 1000, ".", driver % 1000 / 10,
                            ", this build needs ", CUDART_VERSION / 1000, ".", CUDART_VERSION % 1000 / 10)
                   : concat("no CUDA device is visible (", cudaGetErrorString(error), ")");
      return;
    }
    for (int i = 0; i < count; ++i) {
      cudaDeviceProp properties;
      require(cudaGetDeviceProperties(&properties, i));
      devices.push_back({properties.name, properties.major, properties.minor, properties.multiProcessorCount,
                         static_cast<std::int64_t>(properties.totalGlobalMem)});
      limits.push_back({properties.multiProcessorCount, properties.l2CacheSize,
                        static_cast<std::int64_t>(properties.sharedMemPerMultiprocessor)});
    }
    if (std::ranges::none_of(devices, is_capable)) {
      reason = concat("no CUDA device has compute capability ", kLeastCapability, ".0 or higher");
    }
  }
};

const Machine& machine() {
  static const Machine found;
  return found;
}

// A device's pool of memory. Calls that wait for their work would make a pool with the default threshold, 0, give
// everything back to the system, and the next call map it anew. The default pool belongs to all libraries of the
// process, so its threshold is not ours to set. This one keeps the most that was in use at once until the process ends.
cudaMemPool_t pool(int device) {
  static std::mutex mutex;
  static auto& pools = *new std::vector<cudaMemPool_t>(machine().devices.size());  // never destroyed: see side_streams
  const std::lock_guard<std::mutex> lock(mutex);
  cudaMemPool_t& own = pools.at(static_cast<std::size_t>(device));
  if (own != nullptr) return own;
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location = {cudaMemLocationTypeDevice, device};
  cudaMemPool_t made = nullptr;
  require(cudaMemPoolCreate(&made, &properties));
  auto kept_bytes = std::numeric_limits<std::uint64_t>::max();
  require(cudaMemPoolSetAttribute(made, cudaMemPoolAttrReleaseThreshold, &kept_bytes));
  return own = made;
}

// The capture of a CUDA graph that a stream is in; 0: none. The legacy default stream cannot be captured, and asking it
// is an error while any other stream is.
unsigned long long capture_of(const Stream& stream) {
  if (stream.handle == nullptr) return 0;
  cudaStreamCaptureStatus status;
  unsigned long long id = 0;
  require(cudaStreamGetCaptureInfo(native(stream), &status, &id));
  return status == cudaStreamCaptureStatusNone ? 0 : id;
}

// While a graph is captured, by whatever thread, CUDA refuses calls that could disturb it, unless the calling thread
// says that it knows what it does.
class DuringCaptures {
 public:
  DuringCaptures() { require(cudaThreadExchangeStreamCaptureMode(&mode_)); }
  DuringCaptures(const DuringCaptures&) = delete;
  ~DuringCaptures() { cudaThreadExchangeStreamCaptureMode(&mode_); }

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

// Streams that are not in use. They end with the process, and the list is never destroyed: other threads may still
// compute while the process ends.
std::mutex side_streams_mutex;
std::vector<Stream>& side_streams() {
  static auto& streams = *new std::vector<Stream>;
  return streams;
}

}  // namespace

void require(int error) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // clears it, or the next launch would report it once more
  const auto status = static_cast<cudaError_t>(error);
  throw DeviceError(concat("CUDA reports ", cudaGetErrorName(status), ": ", cudaGetErrorString(status)));
}

bool built() { return true; }
std::string unavailable_reason() { return machine().reason; }
int device_count() { return static_cast<int>(machine().devices.size()); }
Device properties(int device) { return machine().devices.at(static_cast<std::size_t>(device)); }
Limits limits(int device) { return machine().limits.at(static_cast<std::size_t>(device)); }

CurrentDevice::CurrentDevice(int device) : device_(device) {
  require(cudaGetDevice(&previous_));
  if (previous_ != device_) require(cudaSetDevice(device_));
}

CurrentDevice::~CurrentDevice() {
  if (previous_ != device_ && cudaSetDevice(previous_) != cudaSuccess) cudaGetLastError();
}

void* allocate(std::size_t bytes, const Stream& stream) {
  void* memory = nullptr;
  require(cudaMallocFromPoolAsync(&memory, bytes, pool(stream.device), native(stream)));
  return memory;
}

void release(void* memory, const Stream& stream) { require(cudaFreeAsync(memory, native(stream))); }

std::int64_t read(const std::int64_t* value, const Stream& stream) {
  std::int64_t copy = 0;
  require(cudaMemcpyAsync(&copy, value, sizeof copy, cudaMemcpyDeviceToHost, native(stream)));
  runtime::synchronize(stream);
  return copy;
}

void wait_for(const Stream& waiting, const Stream& producing) {
  if (waiting.handle == producing.handle) return;
  cudaEvent_t event = nullptr;
  require(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  const cudaError_t recorded = cudaEventRecord(event, native(producing));
  const cudaError_t queued = recorded == cudaSuccess ? cudaStreamWaitEvent(native(waiting), event, 0) : recorded;
  require(cudaEventDestroy(event));  // what waits for it goes on waiting
  require(queued);
}

void synchronize(const Stream& stream) { require(cudaStreamSynchronize(native(stream))); }
void synchronize_device() { require(cudaDeviceSynchronize()); }

// From memory that is not pinned: staged before the call returns.
void copy_to_device(void* to, const void* from, std::size_t bytes, const Stream& stream) {
  require(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, native(stream)));
}

void fill_bytes(void* memory, int value, std::size_t bytes, const Stream& stream) {
  if (bytes > 0) require(cudaMemsetAsync(memory, value, bytes, native(stream)));
}

// One that has joined a capture stays in it until the capture ends.
Stream take_side_stream(const Stream& beside) {
  const std::lock_guard<std::mutex> lock(side_streams_mutex);
  std::vector<Stream>& free = side_streams();
  const auto found = std::ranges::find_if(free, [&](const Stream& stream) {
    if (stream.device != beside.device) return false;
    const unsigned long long capture = capture_of(stream);
    return capture == 0 || capture == capture_of(beside);
  });
  if (found != free.end()) {
    const Stream taken = *found;
    free.erase(found);
    return taken;
  }
  const DuringCaptures creating;
  cudaStream_t stream = nullptr;
  require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return {beside.device, stream};
}

void give_side_stream_back(const Stream& stream) noexcept {
  const std::lock_guard<std::mutex> lock(side_streams_mutex);
  side_streams().push_back(stream);
}

FaultRecord* fault_record() {
  void* address = nullptr;
  require(cudaGetSymbolAddress(&address, fault_record_on_device));
  return static_cast<FaultRecord*>(address);
}

FaultRecord take_fault_record() {
  synchronize_device();
  FaultRecord record;
  require(cudaMemcpyFromSymbol(&record, fault_record_on_device, sizeof record));
  if (record.count > 0) {
    const FaultRecord none{};
    require(cudaMemcpyToSymbol(fault_record_on_device, &none, sizeof none));
  }
  return record;
}

}  // namespace fastnce::cuda::runtime
