// Early end of a call. Each call creates one Interruption; its threads poll it every few milliseconds of work. Inside
// parallel() a thread then skips the rest of its work but still enters the barriers; check() throws after the region.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "cpu/parallel.h"

namespace fastnce::cpu {

// Replaces what the calling thread asks, and returns what it asked before; null: nothing.
bool (*exchange_interrupt_request(bool (*requested)()))();

class Interruption {
 public:
  Interruption();
  Interruption(const Interruption&) = delete;

  // Any thread of the call may ask; only the thread that made it asks the application.
  bool requested();

  // Throws Interrupted if so. Not inside parallel() before the last barrier.
  void check();

 private:
  std::atomic<bool> requested_{false};
  std::chrono::steady_clock::time_point next_;  // the calling thread's
};

// Calls work(part) for parts of `whole` of at most `size`, until the call is interrupted.
template <class Work>
void in_parts(Range whole, std::int64_t size, Interruption& interruption, const Work& work) {
  for (std::int64_t begin = whole.begin; begin < whole.end && !interruption.requested(); begin += size) {
    work(Range{begin, begin + size < whole.end ? begin + size : whole.end});
  }
}

}  // namespace fastnce::cpu
