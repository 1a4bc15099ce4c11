#include "cpu/runtime/interrupt.h"

#include "fastnce/interrupt.h"

namespace fastnce::cpu {

thread_local InterruptRequest interrupt_request;

Interruption::Interruption() {
  if (interrupt_request.requested != nullptr) next_ = std::chrono::steady_clock::now() + interrupt_request.interval;
}

bool Interruption::requested() {
  if (requested_.load(std::memory_order_relaxed)) return true;
  if (interrupt_request.requested == nullptr) return false;
  const auto now = std::chrono::steady_clock::now();
  if (now < next_) return false;
  next_ = now + interrupt_request.interval;
  if (!interrupt_request.requested()) return false;
  requested_.store(true, std::memory_order_relaxed);
  return true;
}

void Interruption::check() {
  if (requested()) throw Interrupted();
}

}  // namespace fastnce::cpu
