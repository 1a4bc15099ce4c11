// Interrupts of long calls. A call makes one Interruption; its threads ask it between parts of their work that
// take some milliseconds. Inside parallel() a thread then skips what is left of its work but still meets the others at
// their barriers; check() throws once all are out.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "cpu/runtime/parallel.h"

namespace fastnce::cpu {

// What the calling thread asks, and how often.
struct InterruptRequest {
  bool (*requested)() = nullptr;  // null: nothing; so it is on OpenMP's own threads
  std::chrono::milliseconds interval{0};
};
extern thread_local InterruptRequest interrupt_request;

class Interruption {
 public:
  Interruption();
  Interruption(const Interruption&) = delete;

  // Asked by any thread of the call; the application is asked by the thread that made it.
  bool requested();

  // Ends the call as an interrupt does.
  void request() { requested_.store(true, std::memory_order_relaxed); }

  // Whether some thread was told so. Asks nobody.
  bool known() const { return requested_.load(std::memory_order_relaxed); }

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
