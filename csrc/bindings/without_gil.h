// Computing without Python's lock, and still ending at Ctrl-C.
#pragma once

#include <Python.h>

#if defined(__GLIBCXX__)
#include <cxxabi.h>
#endif
#include <unistd.h>

#include "fastnce/interrupt.h"

namespace fastnce::bindings {

// What a call of this thread asks to learn whether Python has a signal to handle: on Python's main thread a function
// that takes the lock and runs Python's signal handlers, elsewhere null. Needs the lock.
bool (*python_interrupt_request())();

// Sets the Python error that the signal handler raised, after Interrupted was thrown. Needs the lock.
void restore_interrupt();

// Releases the lock for its lifetime. Until then no Python object may be touched. On Python's main thread a signal
// handler that raises, as that of Ctrl-C does, ends the work with Interrupted.
//
// Where the interpreter ends meanwhile, Python (before 3.14) ends this thread when it asks for the lock: by unwinding
// its stack, on which C++ ends the process, since that must not leave a destructor, nor may Python objects further up
// be let go of without the lock. So the thread sleeps instead for what is left of the process, as from 3.14 on.
class WithoutGil {
 public:
  WithoutGil() : scope_(python_interrupt_request()), state_(PyEval_SaveThread()) {}
  WithoutGil(const WithoutGil&) = delete;
  ~WithoutGil() {
#if defined(__GLIBCXX__)
    try {
      PyEval_RestoreThread(state_);
    } catch (abi::__forced_unwind&) {
      for (;;) pause();
    }
#else
    PyEval_RestoreThread(state_);
#endif
  }

 private:
  InterruptScope scope_;
  PyThreadState* state_;
};

}  // namespace fastnce::bindings
