// Progress of a call, as Python follows it.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <utility>

#include "bindings/arrays/array.h"
#include "bindings/arrays/without_gil.h"
#include "fastnce/error.h"
#include "fastnce/interrupt.h"
#include "fastnce/progress.h"

namespace fastnce::bindings {

// A callable of Python's that is told how far a call is. What it raises ends the call.
class PythonProgress {
 public:
  explicit PythonProgress(py::handle callback) : callback_(callback) {
    if (!callback.is_none() && PyCallable_Check(callback.ptr()) == 0) {
      throw InvalidType(concat("progress", is_a(callback), ": expected None or a callable of (done, total)"));
    }
  }

  // Calls compute(progress) without the GIL.
  template <class Compute>
  void follow(const Compute& compute) {
    try {
      const WithoutGil released;
      compute(callback_.is_none() ? Progress{} : Progress{&report, this});
    } catch (const Interrupted&) {
      if (raised_) throw py::error_already_set(*raised_);
      throw;
    }
  }

 private:
  static bool report(void* context, std::int64_t done, std::int64_t total) {
    auto& self = *static_cast<PythonProgress*>(context);
    const InterruptScope nothing(nullptr);  // the callable may call the library
    const PyGILState_STATE state = PyGILState_Ensure();
    try {
      self.callback_(done, total);
    } catch (py::error_already_set& error) {
      self.raised_.emplace(std::move(error));
    }
    PyGILState_Release(state);
    return !self.raised_;
  }

  const py::handle callback_;
  std::optional<py::error_already_set> raised_;
};

}  // namespace fastnce::bindings
