#include "bindings/arrays/without_gil.h"

#include <pthread.h>
#include <pybind11/pybind11.h>

#include <atomic>
#include <optional>

namespace fastnce::bindings {

namespace py = pybind11;

namespace {

std::atomic<unsigned long> main_thread{0};

// Only the main thread uses it, with the GIL held. It must outlive the interpreter's end, so it is never destroyed.
std::optional<py::error_already_set>& raised() {
  static auto* const error = new std::optional<py::error_already_set>;
  return *error;
}

bool run_signal_handlers() {
  // A handler may call the library. Those calls must not be ended by the interrupt of this one.
  const InterruptScope nothing(nullptr);
  const PyGILState_STATE state = PyGILState_Ensure();
  const bool failed = PyErr_CheckSignals() != 0;
  if (failed) raised().emplace();  // takes the error over, so that destructors on the way out may use Python
  PyGILState_Release(state);
  return failed;
}

}  // namespace

void remember_main_thread() {
  main_thread = py::module_::import("threading").attr("main_thread")().attr("ident").cast<unsigned long>();
  static bool follows_forks = false;
  if (follows_forks) return;
  follows_forks = true;
  pthread_atfork(nullptr, nullptr, [] { main_thread = PyThread_get_thread_ident(); });
}

bool (*python_interrupt_request())() {
  return PyThread_get_thread_ident() == main_thread ? &run_signal_handlers : nullptr;
}

void restore_interrupt() {
  if (!raised()) return PyErr_SetNone(PyExc_KeyboardInterrupt);
  raised()->restore();
  raised().reset();
}

}  // namespace fastnce::bindings
