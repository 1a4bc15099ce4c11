// An optimizer as Python passes it: its numbers and the arrays of its states.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "bindings/arrays/array.h"
#include "fastnce/optimizer.h"

namespace fastnce::bindings {

// Lives as long as the Python object that made it; its states are borrowed for as long, and `step`, if given, is the
// number of steps made, which is written to.
class OptimizerArgument {
 public:
  // States as a tuple of arrays for each of weights and biases; biases_states may be None. `device` is where they are:
  // a Device of python/fastnce/_devices.py, or None for the CPU.
  OptimizerArgument(const std::string& kind, py::handle weights_states, py::handle biases_states, py::handle device,
                    std::optional<py::array_t<std::int64_t>> step);

  Optimizer numbers;
  bool has_biases() const { return has_biases_; }

  // With the states of these tables. Throws where they do not fit them.
  RowUpdate of(const Scoring& tables) const;

  // Counts a step once it is made. Here, not in Python, where Ctrl-C could come between an update and its count.
  void count_step() {
    if (step_) ++*step_->mutable_data();
  }

 private:
  void add_states(py::handle given, const char* table, const Place& place, std::deque<Array>& states);

  std::optional<py::array_t<std::int64_t>> step_;
  std::deque<std::string> names_;
  std::deque<Array> weights_states_, biases_states_;
  bool has_biases_;
};

}  // namespace fastnce::bindings
