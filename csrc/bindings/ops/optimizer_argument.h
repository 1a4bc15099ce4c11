// An optimizer as Python passes it: its numbers and the arrays of its states.
#pragma once

#include <pybind11/numpy.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "bindings/arrays/array.h"
#include "fastnce/optimizer.h"

namespace fastnce::bindings {

// Lives as long as the Python object that made it; its states are borrowed for as long. Each of `steps` is a number of
// steps made, of both tables or of each, which is written to.
class OptimizerArgument {
 public:
  // States as a tuple of arrays for each of weights and biases; biases_states may be None. `device` is where they are:
  // a Device of python/fastnce/_devices.py, or None for the CPU.
  OptimizerArgument(const std::string& kind, py::handle weights_states, py::handle biases_states, py::handle device,
                    std::vector<py::array_t<std::int64_t>> steps);

  Optimizer numbers;
  bool has_biases() const { return has_biases_; }

  // With the states of these tables. Throws where they do not fit them.
  RowUpdate of(const Scoring& tables) const;

  // Counts a step once it is made. Here, not in Python, where Ctrl-C could come between an update and its count.
  void count_step() {
    for (py::array_t<std::int64_t>& made : steps_) {
      // Tables of one call have one number; several threads that use one object make a step each.
      *made.mutable_data() = std::max(*made.data() + 1, numbers.step);
    }
  }

 private:
  void add_states(py::handle given, const char* table, const Place& place, std::deque<Array>& states);

  std::vector<py::array_t<std::int64_t>> steps_;
  std::deque<std::string> names_;
  std::deque<Array> weights_states_, biases_states_;
  bool has_biases_;
};

}  // namespace fastnce::bindings
