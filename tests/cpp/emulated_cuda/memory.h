// Device memory, and the order of the work that touches it. Work happens as soon as it is queued, but each stream has a
// clock of its own, and so has the host: work fails where it touches
//  - memory that was released;
//  - bytes that threads of one kernel touch with nothing to order them (touch.h);
//  - memory that work on another stream has written, or writes while that may still read, unless the clocks say that
//    the other came before (wait_for(), synchronize());
//  - what lies outside of every allocation. Only where all memory is known: see require_known_memory().
// release() prints and throws std::logic_error while work on another stream may still use the memory: a device would
// not notice, so this is no DeviceError, which destructors may ignore.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "cuda/runtime.h"
#include "fastnce/cuda.h"
#include "touch.h"

namespace fastnce::cuda::emulated {

void* allocate(std::size_t bytes, const Stream& stream);  // filled with NaNs
void release(void* memory, const Stream& stream);

void wait_for(const Stream& waiting, const Stream& producing);
void synchronize(const Stream& stream);  // the host waits
void synchronize();                      // for all streams

// Of the device. So small a cache that batches of a few hundred examples come in several chunks.
inline runtime::Limits limits{4, 400 * 1024, 228 * 1024};

// Memory of the host's that kernels may touch, too; not observed further.
void lend(const void* memory, std::size_t bytes);
void take_back(const void* memory);

// The host has filled memory that allocate() gave.
void note_host_write(const void* memory);

// Whether kernels may touch nothing but what allocate() gave and lend() has lent, and read nothing of which neither
// work nor the host has written a byte (structs have bytes that nobody writes).
void require_known_memory(bool known);

// A piece of work on a stream: a kernel, a fill, a copy. One at a time.
class Work {
 public:
  Work(const std::string& name, const Stream& stream);
  Work(const Work&) = delete;
  ~Work();

  // Its bytes so far, and a multiple of them.
  void extrapolate(double factor);

 private:
  std::unique_lock<std::recursive_mutex> lock_;
  std::int64_t read_before_ = 0, written_before_ = 0;
};

// An access of the work that goes on, or, where there is none, of the host.
void access_global(const void* address, std::size_t bytes, Access access);
void check_access(const void* address, std::size_t bytes, Access access);  // not counted

// On global memory, whole; as in csrc/cuda/device.cuh.
unsigned long long atomic_cas(unsigned long long* word, unsigned long long expected, unsigned long long desired);
void atomic_min(unsigned long long* word, unsigned long long value);
unsigned long long atomic_add(unsigned long long* word, unsigned long long value);
unsigned long long load_shared_word(const unsigned long long* word);

// Fails unless an address is a multiple of `bytes`, a power of two.
void require_aligned(const void* address, std::size_t bytes);

struct Counters {
  std::int64_t launches = 0;
  std::int64_t bytes_read = 0, bytes_written = 0;  // of global memory, as asked for by threads
};
std::map<std::string, Counters> counters();  // by the work's name
void reset_counters();

}  // namespace fastnce::cuda::emulated
