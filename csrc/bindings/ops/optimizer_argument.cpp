#include "bindings/ops/optimizer_argument.h"

#include <utility>
#include <vector>

#include "bindings/ops/cuda_call.h"
#include "bindings/ops/host_call.h"
#include "fastnce/error.h"

namespace fastnce::bindings {

namespace {

const char* name_of(DType dtype) { return dtype == DType::kFloat64 ? "float64" : "float32"; }

// A state is [V, D], or [V] of a row-wise optimizer and of biases, of the compute dtype, for at least V rows.
void require_fits(const Array& state, const Scoring& tables, std::int64_t rows, bool is_vector) {
  std::vector<std::int64_t> expected{rows};
  if (!is_vector) expected.push_back(tables.dim);
  if (state.shape != expected) {
    throw InvalidValue(
        concat(state.name, " has shape ", state.shape_text(), ": expected ", shape_text(expected), ", as its table"));
  }
  if (floating_type(state) != tables.dtype) {
    throw InvalidType(concat(state.name, " has dtype ", state.type_name(), ": expected ", name_of(tables.dtype)));
  }
  if (count(state.shape) > 0 && !is_compact(state.shape, state.strides)) {
    throw InvalidValue(concat(state.name, " is not contiguous: expected an array in row-major order"));
  }
}

}  // namespace

OptimizerArgument::OptimizerArgument(const std::string& kind, py::handle weights_states, py::handle biases_states,
                                     py::handle device, std::vector<py::array_t<std::int64_t>> steps)
    : steps_(std::move(steps)), has_biases_(!biases_states.is_none()) {
  numbers.kind = optimizer_named(kind);
  const Place place = device.is_none() ? kHost : place_on(stream_of(device), "weights");
  add_states(weights_states, "weights", place, weights_states_);
  if (has_biases_) add_states(biases_states, "biases", place, biases_states_);
}

void OptimizerArgument::add_states(py::handle given, const char* table, const Place& place, std::deque<Array>& states) {
  for (const py::handle state : py::reinterpret_borrow<py::tuple>(given)) {
    const std::string& name = names_.emplace_back(concat("state ", states.size(), " of ", table));
    states.push_back(borrow(state, name.c_str(), place));
  }
}

RowUpdate OptimizerArgument::of(const Scoring& tables) const {
  RowUpdate update{.optimizer = numbers};
  const bool rowwise = states_of(numbers.kind).rowwise;
  const auto take = [&](const std::deque<Array>& states, std::int64_t rows, bool is_vector, void** to) {
    for (const Array& state : states) {
      require_fits(state, tables, rows, is_vector);
      *to++ = const_cast<std::byte*>(state.data);  // Python made it to be written to
    }
  };
  take(weights_states_, tables.weights.rows(), rowwise, update.weights_states);
  take(biases_states_, tables.biases.rows(), true, update.biases_states);
  return update;
}

}  // namespace fastnce::bindings
