#include "cpu/interrupt.h"

#include <utility>

#include "fastnce/interrupt.h"

namespace fastnce::cpu {

namespace {

constexpr std::chrono::milliseconds kBetweenRequests{100};

thread_local bool (*ask)() = nullptr;  // null on OpenMP's own threads

}  // namespace

bool (*exchange_interrupt_request(bool (*requested)()))() { return std::exchange(ask, requested); }

Interruption::Interruption() {
  if (ask != nullptr) next_ = std::chrono::steady_clock::now() + kBetweenRequests;
}

bool Interruption::requested() {
  if (requested_.load(std::memory_order_relaxed)) return true;
  if (ask == nullptr) return false;
  const auto now = std::chrono::steady_clock::now();
  if (now < next_) return false;
  next_ = now + kBetweenRequests;
  if (!ask()) return false;
  requested_.store(true, std::memory_order_relaxed);
  return true;
}

void Interruption::check() {
  if (requested()) throw Interrupted();
}

}  // namespace fastnce::cpu
