// How an application ends a long call early, as Python does at Ctrl-C.
#pragma once

#include <chrono>
#include <exception>

namespace fastnce {

// Ends a call whose InterruptScope said so. Its outputs are then undefined.
class Interrupted : public std::exception {
 public:
  const char* what() const noexcept override { return "interrupted"; }
};

// While it lives, calls of this thread ask `requested` every `interval`, first after one, and throw Interrupted soon
// after it says true: work is done in parts of some 10 ms. Calls on a CUDA device do not ask: they only queue their
// work. Scopes nest; the innermost counts. `requested` must not throw.
class InterruptScope {
 public:
  explicit InterruptScope(bool (*requested)(), std::chrono::milliseconds interval = std::chrono::milliseconds{100});
  InterruptScope(const InterruptScope&) = delete;
  ~InterruptScope();

 private:
  bool (*outer_)();
  std::chrono::milliseconds outer_interval_;
};

}  // namespace fastnce
