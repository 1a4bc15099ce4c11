// Candidate samplers and accidental hits.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <limits>
#include <utility>

#include "bindings/array.h"
#include "bindings/register.h"
#include "fastnce/error.h"
#include "fastnce/sampler.h"

namespace fastnce::bindings {

namespace {

// true_classes [B, T] or, for T = 1, [B]; returns B.
std::int64_t require_true_classes(const Ids& classes, std::int64_t num_true) {
  const Array& array = classes.array();
  if (array.rank() == 1 && num_true == 1) return array.shape[0];
  require_rank(array, 2, "[B, num_true]");
  if (array.shape[1] != num_true) {
    throw InvalidValue(
        concat(array.name, " has shape ", array.shape_text(), ": expected [B, num_true] with num_true = ", num_true));
  }
  return array.shape[0];
}

py::tuple log_uniform_candidates(py::handle true_classes, py::handle num_true, py::handle num_sampled, bool unique,
                                 py::handle range_max, std::uint64_t seed, std::uint64_t seed2, std::uint64_t call) {
  const std::int64_t t = integer(num_true, "num_true");
  const LogUniformParams params{.range_max = integer(range_max, "range_max"),
                                .num_sampled = integer(num_sampled, "num_sampled"),
                                .unique = unique,
                                .seed = seed,
                                .seed2 = seed2,
                                .call = call};
  if (t < 1) throw InvalidValue(concat("num_true = ", t, ": expected at least 1"));
  validate(params);
  const Ids classes(borrow_or_convert(true_classes, "true_classes"));
  const std::int64_t batch = require_true_classes(classes, t);
  for (std::size_t i = 0; i < classes.values().size(); ++i) {
    const std::int64_t id = classes.values()[i];
    if (id >= 0 && id < params.range_max) continue;
    throw InvalidValue(
        concat("true_classes[", i / t, ", ", i % t, "] = ", id, " is outside [0, range_max = ", params.range_max, ")"));
  }
  py::array_t<std::int64_t> ids(params.num_sampled);
  py::array_t<float> true_count({batch, t});
  py::array_t<float> sampled_count(params.num_sampled);
  std::int64_t* const ids_data = ids.mutable_data();
  float* const true_data = true_count.mutable_data();
  float* const sampled_data = sampled_count.mutable_data();
  {
    // Safe: inputs are borrowed and outputs are ours; nothing below touches a Python object.
    py::gil_scoped_release release;
    const std::int64_t tries = log_uniform_sample(params, ids_data);
    log_uniform_expected_count(params, tries, classes.values(), true_data);
    log_uniform_expected_count(params, tries, {ids_data, static_cast<std::size_t>(params.num_sampled)}, sampled_data);
  }
  return py::make_tuple(ids, true_count, sampled_count);
}

py::tuple find_accidental_hits(py::handle true_classes, py::handle sampled_candidates, py::handle num_true) {
  const std::int64_t t = integer(num_true, "num_true");
  if (t < 0) throw InvalidValue(concat("num_true = ", t, ": expected at least 0"));
  const Ids classes(borrow_or_convert(true_classes, "true_classes"));
  require_true_classes(classes, t);
  const Ids sampled(borrow_or_convert(sampled_candidates, "sampled_candidates"));
  require_rank(sampled.array(), 1, "[S]");
  const std::vector<AccidentalHit> hits = [&] {
    py::gil_scoped_release release;  // safe: works on borrowed memory only
    return accidental_hits(classes.values(), t, sampled.values());
  }();
  const auto count = static_cast<py::ssize_t>(hits.size());
  py::array_t<std::int32_t> indices(count);
  py::array_t<std::int64_t> positions(count);
  py::array_t<float> weights(count);
  for (py::ssize_t i = 0; i < count; ++i) {
    indices.mutable_data()[i] = static_cast<std::int32_t>(hits[i].example);
    positions.mutable_data()[i] = hits[i].position;
    weights.mutable_data()[i] = -std::numeric_limits<float>::max();
  }
  return py::make_tuple(indices, positions, weights);
}

}  // namespace

void register_sampler(py::module_& module) {
  module.def("fresh_seed", [] {
    const SeedPair pair = fresh_seed();
    return std::pair(pair.seed, pair.seed2);
  });
  module.def("log_uniform_candidates", &log_uniform_candidates, py::arg("true_classes"), py::arg("num_true"),
             py::arg("num_sampled"), py::arg("unique"), py::arg("range_max"), py::arg("seed"), py::arg("seed2"),
             py::arg("call"));
  module.def("accidental_hits", &find_accidental_hits, py::arg("true_classes"), py::arg("sampled_candidates"),
             py::arg("num_true"));
}

}  // namespace fastnce::bindings
