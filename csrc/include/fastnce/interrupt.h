// How an application ends a long call early, as Python does at Ctrl-C.
#pragma once

#include <exception>

namespace fastnce {

// Thrown by a call that its InterruptScope ended. The outputs are then undefined.
class Interrupted : public std::exception {
 public:
  const char* what() const noexcept override { return "interrupted"; }
};

// While a scope exists, calls of this thread poll `requested` every tenth of a second and throw Interrupted within some
// tenths of a second after it returns true. Calls on a CUDA device do not poll, because they only queue their work.
// Scopes nest; the innermost counts. `requested` must not throw.
class InterruptScope {
 public:
  explicit InterruptScope(bool (*requested)());
  InterruptScope(const InterruptScope&) = delete;
  ~InterruptScope();

 private:
  bool (*outer_)();
};

}  // namespace fastnce
