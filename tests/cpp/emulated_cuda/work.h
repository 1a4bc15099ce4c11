// Work on streams, and what comes before what. Work happens as soon as it is queued, but each stream has a clock of its
// own, and so has the host: a piece of work comes before another on the same stream, and before one on another stream
// if that has waited for it since, or the host has before it queued the other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "cuda/runtime/runtime.h"
#include "fastnce/cuda.h"

namespace fastnce::cuda::emulated {

// Of the device. So small a cache that batches of a few hundred examples come in several chunks.
inline runtime::Limits limits{4, 400 * 1024, 228 * 1024};

void wait_for(const Stream& waiting, const Stream& producing);
void synchronize(const Stream& stream);  // the host waits
void synchronize();                      // for all streams

struct Counters {
  std::int64_t launches = 0;
  std::int64_t bytes_read = 0, bytes_written = 0;  // of global memory, as asked for by threads
};
std::map<std::string, Counters> counters();  // by the work's name
void reset_counters();

// A piece of work on a stream: a kernel, a fill, a copy. One at a time.
class Work {
 public:
  Work(const std::string& name, const Stream& stream);
  Work(const Work&) = delete;
  ~Work();

  // Its bytes so far, and a multiple of them.
  void extrapolate(double factor);

  // Of the work that goes on, if any does.
  static void count_read(std::size_t bytes);
  static void count_written(std::size_t bytes);

 private:
  std::unique_lock<std::recursive_mutex> lock_;
  std::int64_t read_before_ = 0, written_before_ = 0;
};

// What memory.cpp orders accesses by. Pieces of work have numbers; 0 is none, or the host.
std::recursive_mutex& device_mutex();
std::uint32_t current_work();
std::uint32_t note_work(const Stream& stream);  // happens now; its number
bool is_current(std::uint32_t work);            // also as one of several readers
// Of a piece of work and those beside it, one that the stream of the current work has not waited for; 0: none.
std::uint32_t not_waited_for(std::uint32_t work);
// The current work as a reader beside others.
std::uint32_t reader_after(std::uint32_t others);
std::string stream_text(std::uint32_t work);  // of its stream

}  // namespace fastnce::cuda::emulated
