// How an application ends a long call early, as Python does at Ctrl-C.
#pragma once

#include <exception>

namespace fastnce {

// Ends a call whose InterruptScope said so. Its outputs are then undefined.
class Interrupted : public std::exception {
 public:
  const char* what() const noexcept override { return "interrupted"; }
};

// While it lives, calls of this thread ask `requested` every tenth of a second, first after a tenth of a second, and
// once it says true they throw Interrupted, within some tenths of a second. Calls on a CUDA device do not ask: they
// only queue their work. Scopes nest; the innermost counts. `requested` must not throw.
class InterruptScope {
 public:
  explicit InterruptScope(bool (*requested)());
  InterruptScope(const InterruptScope&) = delete;
  ~InterruptScope();

 private:
  bool (*outer_)();
};

}  // namespace fastnce
