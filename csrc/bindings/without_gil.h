// Computing without Python's lock.
#pragma once

#include <Python.h>

#if defined(__GLIBCXX__)
#include <cxxabi.h>
#endif
#include <unistd.h>

namespace fastnce::bindings {

// Releases the lock for its lifetime. Until then no Python object may be touched.
//
// Where the interpreter ends meanwhile, Python (before 3.14) ends this thread when it asks for the lock: by unwinding
// its stack, on which C++ ends the process, since that must not leave a destructor, nor may Python objects further up
// be let go of without the lock. So the thread sleeps instead for what is left of the process, as from 3.14 on.
class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
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
  PyThreadState* state_;
};

}  // namespace fastnce::bindings
