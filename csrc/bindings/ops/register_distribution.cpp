// The tables of unigram distributions.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings/arrays/array.h"
#include "bindings/arrays/class_range.h"
#include "bindings/arrays/without_gil.h"
#include "bindings/ops/cuda_call.h"
#include "bindings/ops/distribution_argument.h"
#include "bindings/ops/register.h"
#include "fastnce/cuda.h"
#include "fastnce/distribution.h"
#include "fastnce/error.h"

namespace fastnce::bindings {

namespace {

double number(py::handle object, std::string_view name) {
  const double value = PyBool_Check(object.ptr()) ? -1.0 : PyFloat_AsDouble(object.ptr());
  if (PyBool_Check(object.ptr()) || PyErr_Occurred()) {
    if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_OverflowError)) {
      PyErr_Clear();
      throw InvalidValue(concat(name, " is an integer too large for a float: expected a finite number"));
    }
    PyErr_Clear();
    throw InvalidType(concat(name, is_a(object), ": expected a number"));
  }
  return value;
}

UnigramOptions unigram_options(py::handle distortion, py::handle num_reserved_ids, py::handle num_shards,
                               py::handle shard) {
  const double power = number(distortion, "distortion");
  if (std::isfinite(power) && std::abs(power) > std::numeric_limits<float>::max()) {
    throw InvalidValue(concat("distortion = ", power, ": expected a finite float32 number"));
  }
  return {.distortion = static_cast<float>(power),
          .num_reserved_ids = integer(num_reserved_ids, "num_reserved_ids"),
          .num_shards = integer(num_shards, "num_shards"),
          .shard = integer(shard, "shard")};
}

WeightSums weight_sums(bool float32_sums) { return float32_sums ? WeightSums::kFloat32 : WeightSums::kFloat64; }

// The numbers of an array that one of these classes has given.
template <class T>
std::vector<T> copied(const py::object& array) {
  const auto values = array.cast<py::array_t<T, py::array::c_style>>();
  return {values.data(), values.data() + values.size()};
}

UnigramTable table_of_unigrams(py::handle unigrams, py::handle distortion, py::handle num_reserved_ids,
                               py::handle num_shards, py::handle shard, bool float32_sums) {
  const UnigramOptions options = unigram_options(distortion, num_reserved_ids, num_shards, shard);
  Array array = borrow_or_convert(unigrams, "unigrams", {.decided_by = "unigrams"});
  require_rank(array, 1, "[n]");
  const std::int64_t shape[] = {array.shape[0]};
  const Values<float> values(std::move(array), shape, "[n]");
  const std::span<const float> numbers(values.data(), static_cast<std::size_t>(shape[0]));
  const WithoutGil released;  // safe: works on what is borrowed here
  return UnigramTable(unigram_weights(numbers, "unigrams", options), weight_sums(float32_sums));
}

UnigramTable table_of_vocabulary(const py::bytes& text, const std::string& name, py::handle distortion,
                                 py::handle num_reserved_ids, py::handle num_shards, py::handle shard,
                                 bool float32_sums) {
  const UnigramOptions options = unigram_options(distortion, num_reserved_ids, num_shards, shard);
  const std::string_view characters = text;  // the caller's, and immutable
  const WithoutGil released;
  return UnigramTable(vocabulary_weights(characters, name, options), weight_sums(float32_sums));
}

py::array_t<float> weights_of_table(const UnigramTable& table) {
  return py::array_t<float>(std::ssize(table.weights()), table.weights().data());
}

py::array_t<std::int32_t> weights_learned(const LearnedWeights& learned) {
  return py::array_t<std::int32_t>(std::ssize(learned.weights()), learned.weights().data());
}

LearnedWeights restored_weights(py::handle weights) {
  const Array array = borrow_or_convert(weights, "weights", {.decided_by = "weights"});
  require_rank(array, 1, "[V]");
  const std::vector<std::int64_t> wide = copy_ids(array);
  const WithoutGil released;
  std::vector<std::int32_t> narrow(wide.size());
  for (std::size_t k = 0; k < wide.size(); ++k) {
    if (wide[k] < 1 || wide[k] > kMostTabledClasses) {
      throw InvalidValue(concat("weights[", k, "] = ", wide[k], ": expected 1 to ", kMostTabledClasses));
    }
    narrow[k] = static_cast<std::int32_t>(wide[k]);
  }
  return LearnedWeights(std::move(narrow));
}

void learn(LearnedWeights& weights, py::handle true_classes) {
  const std::vector<std::int64_t> classes =
      copy_ids(borrow_or_convert(true_classes, "true_classes", {.decided_by = "true_classes"}));
  require_in_range(classes, 1, "true_classes", "range_max", std::ssize(weights.weights()));
  const WithoutGil released;
  weights.learn(classes);
}

// A table whose copy is in the memory of a CUDA device.
struct DeviceUnigramTable {
  Distribution distribution;
  py::object memory;  // owns it
};

DeviceUnigramTable table_on_device(const UnigramTable& table, py::object memory, std::uintptr_t address,
                                   py::handle device) {
  const cuda::Stream stream = stream_of(device);
  const Distribution copy = [&] {
    const WithoutGil released;  // safe: the caller holds table and memory
    return cuda::copy_tables(table.distribution(), reinterpret_cast<void*>(address), stream);
  }();
  return {copy, std::move(memory)};
}

}  // namespace

Distribution distribution_argument(py::handle object, std::int64_t range_max) {
  if (py::isinstance<py::str>(object)) return distribution_named(object.cast<std::string>(), range_max);
  if (py::isinstance<py::tuple>(object)) {
    const auto parts = py::reinterpret_borrow<py::tuple>(object);
    const auto name = parts[0].cast<std::string>();
    std::vector<double> parameters;
    for (std::size_t i = 1; i < parts.size(); ++i) {
      parameters.push_back(number(parts[i], concat("parameter ", i, " of '", name, "'")));
    }
    return distribution_named(name, range_max, parameters);
  }
  const Distribution given = [&] {
    if (py::isinstance<DeviceUnigramTable>(object)) return object.cast<const DeviceUnigramTable&>().distribution;
    if (py::isinstance<UnigramTable>(object)) return object.cast<const UnigramTable&>().distribution();
    return object.cast<const LearnedWeights&>().distribution();
  }();
  if (given.range_max != range_max) {
    throw InvalidValue(concat("range_max = ", range_max, ": expected ", given.range_max, ", the number of weights"));
  }
  return given;
}

void register_distribution(py::module_& module) {
  py::class_<UnigramTable>(module, "UnigramTable")
      .def_static("of_unigrams", &table_of_unigrams, py::arg("unigrams"), py::arg("distortion"),
                  py::arg("num_reserved_ids"), py::arg("num_shards"), py::arg("shard"), py::arg("float32_sums"))
      .def_static("of_vocabulary", &table_of_vocabulary, py::arg("text"), py::arg("name"), py::arg("distortion"),
                  py::arg("num_reserved_ids"), py::arg("num_shards"), py::arg("shard"), py::arg("float32_sums"))
      .def_property_readonly("weights", &weights_of_table)
      .def_property_readonly("device_bytes",
                             [](const UnigramTable& table) { return cuda::table_bytes(table.distribution()); })
      .def("on_device", &table_on_device, py::arg("memory"), py::arg("address"), py::arg("device"))
      .def("__len__", [](const UnigramTable& table) { return table.weights().size(); })
      .def("__copy__", [](const py::object& self) { return self; })  // immutable
      .def("__deepcopy__", [](const py::object& self, const py::dict&) { return self; })
      .def(py::pickle(
          [](const UnigramTable& table) {
            return py::make_tuple(weights_of_table(table), table.sums() == WeightSums::kFloat32);
          },
          [](const py::tuple& state) {
            return UnigramTable(copied<float>(state[0]), weight_sums(state[1].cast<bool>()));
          }));
  py::class_<DeviceUnigramTable>(module, "DeviceUnigramTable");
  py::class_<LearnedWeights>(module, "LearnedWeights")
      .def(py::init<std::int64_t>(), py::arg("range_max"))
      .def_static("of_weights", &restored_weights, py::arg("weights"))
      .def("learn", &learn, py::arg("true_classes"))
      .def("copy", [](const LearnedWeights& learned) { return LearnedWeights(learned); })
      .def_property_readonly("weights", &weights_learned)
      .def("__len__", [](const LearnedWeights& learned) { return learned.weights().size(); })
      .def(py::pickle([](const LearnedWeights& learned) { return weights_learned(learned); },
                      [](const py::object& weights) { return LearnedWeights(copied<std::int32_t>(weights)); }));
}

}  // namespace fastnce::bindings
