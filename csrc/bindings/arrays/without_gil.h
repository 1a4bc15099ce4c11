// Computing without the GIL, with Ctrl-C still ending the work.
#pragma once

#include <Python.h>

#if defined(__GLIBCXX__)
#include <cxxabi.h>
#endif
#include <unistd.h>

#include "fastnce/interrupt.h"

namespace fastnce::bindings {

// Python handles signals on its main thread alone; in a forked child that is the thread that forked. To be called when
// the module is initialised, because it runs Python code, during which other threads may take the GIL.
void remember_main_thread();

// The function that a call of this thread polls for signals: on Python's main thread it takes the GIL and runs Python's
// signal handlers; elsewhere null. Needs the GIL.
bool (*python_interrupt_request())();

// Sets the Python error that the signal handler raised, after Interrupted was thrown. Needs the GIL.
void restore_interrupt();

// Releases the GIL for its lifetime. Meanwhile no Python object may be touched. On Python's main thread a signal
// handler that raises, as that of Ctrl-C does, ends the work with Interrupted.
//
// If the interpreter ends meanwhile, Python before 3.14 ends this thread when it requests the GIL, by unwinding its
// stack. That would leave a destructor by an exception, which ends the process, and release Python objects without the
// GIL. Therefore the thread sleeps until the process ends, as Python 3.14 itself does.
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
