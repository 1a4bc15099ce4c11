// Candidate samplers and accidental hits.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "bindings/arrays/array.h"
#include "bindings/arrays/class_range.h"
#include "bindings/arrays/without_gil.h"
#include "bindings/ops/cuda.h"
#include "bindings/ops/distribution_argument.h"
#include "bindings/ops/register.h"
#include "fastnce/error.h"
#include "fastnce/sampler.h"

namespace fastnce::bindings {

namespace {

SamplerParams sampler_params(py::handle distribution, py::handle num_true, py::handle num_sampled, py::handle unique,
                             py::handle range_max) {
  const std::int64_t t = integer(num_true, "num_true");
  const SamplerParams params{.distribution = distribution_argument(distribution, integer(range_max, "range_max")),
                             .num_sampled = integer(num_sampled, "num_sampled"),
                             .unique = boolean(unique, "unique")};
  if (t < 1) throw InvalidValue(concat("num_true = ", t, ": expected at least 1"));
  validate(params);
  return params;
}

std::vector<std::int64_t> true_classes_in_range(py::handle true_classes, std::int64_t num_true,
                                                const Distribution& distribution) {
  const Array array = borrow_or_convert(true_classes, "true_classes", {.decided_by = "true_classes"});
  require_classes(array, -1, num_true);
  std::vector<std::int64_t> classes = copy_ids(array);
  const char* const limit = is_all(distribution) ? "num_sampled" : "range_max";
  require_in_range(classes, num_true, "true_classes", limit, distribution.range_max);
  return classes;
}

// Values or offsets of lists.
std::vector<std::int64_t> copy_list(py::handle ids, const char* name, const char* shape) {
  const Array array = borrow_or_convert(ids, name, {.decided_by = "true_classes"});
  require_rank(array, 1, shape);
  return copy_ids(array);
}

std::vector<std::int64_t> copy_offsets(py::handle given, const char* name) {
  std::vector<std::int64_t> offsets = copy_list(given, name, "[B + 1]");
  if (offsets.empty()) throw InvalidValue(concat(name, " has shape [0]: expected [B + 1]"));
  return offsets;
}

// The batch that is drawn for, as passed: what a SampleRequest borrows.
struct Batch {
  // Without offsets true classes are [B, T]. Without `num_groups` the results are those of one group, without its axis.
  Batch(py::handle true_classes, std::int64_t num_true, py::handle true_offsets, py::handle num_groups,
        py::handle exclude, py::handle exclude_offsets, const Distribution& distribution)
      : grouped(!num_groups.is_none()) {
    if (true_offsets.is_none()) {
      classes = true_classes_in_range(true_classes, num_true, distribution);
      request.batch = std::ssize(classes) / num_true;
      true_shape = {request.batch, num_true};
    } else {
      classes = copy_list(true_classes, "true_classes.values", "[n]");
      offsets = copy_offsets(true_offsets, "true_classes.offsets");
      request.true_offsets = offsets.data();
      request.batch = std::ssize(offsets) - 1;
      true_shape = {std::ssize(classes)};
    }
    request.true_classes = classes;
    if (grouped) request.groups = integer(num_groups, "num_groups");
    if (exclude.is_none()) return;
    excluded = copy_list(exclude, "exclude.values", "[n]");
    excluded_offsets = copy_offsets(exclude_offsets, "exclude.offsets");
    const std::int64_t lists = std::ssize(excluded_offsets) - 1;
    if (lists != request.batch) {
      throw InvalidValue(concat("exclude.offsets has shape [", lists + 1, "]: expected [B + 1] = [", request.batch + 1,
                                "], as true_classes has B = ", request.batch, " examples"));
    }
    if (excluded_offsets.back() != std::ssize(excluded)) {
      throw InvalidValue(concat("exclude.offsets[", lists, "] = ", excluded_offsets.back(),
                                ": expected the number of values, ", excluded.size()));
    }
    request.exclude = {excluded.data(), excluded_offsets.data()};
  }
  Batch(const Batch&) = delete;

  py::tuple sample_from(std::span<const SamplerParams> sources) {
    request.sources = sources;
    validate(request);
    std::vector<py::ssize_t> shape{request.num_sampled()};
    if (grouped) shape.insert(shape.begin(), request.groups);
    py::array_t<std::int64_t> ids(shape);
    py::array_t<float> true_count(true_shape), sampled_count(shape);
    std::int64_t* const ids_data = ids.mutable_data();
    float* const true_data = true_count.mutable_data();
    float* const sampled_data = sampled_count.mutable_data();
    {
      // Safe: inputs are copied, outputs are ours, and the caller holds the distribution's tables; nothing below
      // touches a Python object.
      const WithoutGil released;
      sample(request, ids_data, true_data, sampled_data);
    }
    return py::make_tuple(ids, true_count, sampled_count);
  }

  const bool grouped;
  std::vector<std::int64_t> classes, offsets, excluded, excluded_offsets;
  std::vector<py::ssize_t> true_shape;
  SampleRequest request;
};

py::tuple candidates(py::handle distribution, py::handle true_classes, py::handle num_true, py::handle num_sampled,
                     py::handle unique, py::handle range_max, std::uint64_t seed, std::uint64_t seed2,
                     std::uint64_t call, py::handle device, std::uintptr_t calls, py::handle true_offsets,
                     py::handle num_groups, py::handle exclude, py::handle exclude_offsets) {
  SamplerParams params = sampler_params(distribution, num_true, num_sampled, unique, range_max);
  params.seed = seed;
  params.seed2 = seed2;
  params.call = call;
  const std::int64_t t = integer(num_true, "num_true");
  if (!device.is_none()) return cuda_candidates(true_classes, t, params, num_groups, calls, device);
  Batch batch(true_classes, t, true_offsets, num_groups, exclude, exclude_offsets, params.distribution);
  return batch.sample_from({&params, 1});
}

// `sources` holds tuples (distribution, num_sampled, unique, seed, seed2, call).
py::tuple mixed_candidates(const py::list& sources, py::handle true_classes, py::handle num_true, py::handle range_max,
                           py::handle true_offsets, py::handle num_groups, py::handle exclude,
                           py::handle exclude_offsets) {
  std::vector<SamplerParams> params;
  for (const py::handle source : sources) {
    const auto field = [&](std::size_t i) { return py::object(py::reinterpret_borrow<py::tuple>(source)[i]); };
    SamplerParams one = sampler_params(field(0), num_true, field(1), field(2), range_max);
    one.seed = field(3).cast<std::uint64_t>();
    one.seed2 = field(4).cast<std::uint64_t>();
    one.call = field(5).cast<std::uint64_t>();
    params.push_back(one);
  }
  Batch batch(true_classes, integer(num_true, "num_true"), true_offsets, num_groups, exclude, exclude_offsets,
              params.at(0).distribution);
  return batch.sample_from(params);
}

// True classes [B, T] as int64: the classes that a call which learns from them has validated.
py::array_t<std::int64_t> class_array(py::handle true_classes, py::handle num_true, py::handle range_max) {
  const std::int64_t t = integer(num_true, "num_true");
  const std::vector<std::int64_t> classes =
      true_classes_in_range(true_classes, t, {.range_max = integer(range_max, "range_max")});
  return py::array_t<std::int64_t>({std::ssize(classes) / t, t}, classes.data());
}

// The same of values or offsets of lists, not validated.
py::array_t<std::int64_t> id_array(py::handle ids, const char* name) {
  const std::vector<std::int64_t> copied = copy_list(ids, name, "[n]");
  return py::array_t<std::int64_t>(std::ssize(copied), copied.data());
}

void require_no_cuda(py::handle object, const char* name) {
  const dl::Device device = device_of(object, name);
  if (device.type != dl::kCuda) return;
  throw InvalidValue(concat(name, " is on device ", device_name(device),
                            ": expected cpu; there the loss takes remove_accidental_hits=True instead"));
}

py::tuple find_accidental_hits(py::handle true_classes, py::handle sampled_candidates, py::handle num_true) {
  const std::int64_t t = integer(num_true, "num_true");
  if (t < 0) throw InvalidValue(concat("num_true = ", t, ": expected at least 0"));
  constexpr Place host{.decided_by = "compute_accidental_hits"};
  require_no_cuda(true_classes, "true_classes");
  require_no_cuda(sampled_candidates, "sampled_candidates");
  const Array class_array = borrow_or_convert(true_classes, "true_classes", host);
  require_classes(class_array, -1, t);
  const std::vector<std::int64_t> classes = copy_ids(class_array);
  const Array sampled_array = borrow_or_convert(sampled_candidates, "sampled_candidates", host);
  require_rank(sampled_array, 1, "[S]");
  const std::vector<std::int64_t> sampled = copy_ids(sampled_array);
  const std::vector<AccidentalHit> hits = [&] {
    const WithoutGil released;  // safe: works on copies
    return accidental_hits(classes, t, sampled);
  }();
  const auto count = static_cast<py::ssize_t>(hits.size());
  py::array_t<std::int32_t> indices(count);
  py::array_t<std::int64_t> positions(count);
  py::array_t<float> weights(count);
  std::int32_t* const indices_data = indices.mutable_data();
  std::int64_t* const positions_data = positions.mutable_data();
  for (py::ssize_t i = 0; i < count; ++i) {
    constexpr py::ssize_t kHitsAtOnce = 1 << 20;
    if (i % kHitsAtOnce == kHitsAtOnce - 1 && PyErr_CheckSignals() != 0) throw py::error_already_set();
    indices_data[i] = static_cast<std::int32_t>(hits[i].example);
    positions_data[i] = hits[i].position;
  }
  std::fill_n(weights.mutable_data(), count, -std::numeric_limits<float>::max());
  return py::make_tuple(indices, positions, weights);
}

bool contains(py::handle classes, const char* name, std::int64_t value) {
  const std::vector<std::int64_t> ids = copy_ids(borrow_or_convert(classes, name, {.decided_by = name}));
  return std::ranges::find(ids, value) != ids.end();
}

}  // namespace

void register_sampler(py::module_& module) {
  module.def("fresh_seed", [] {
    const SeedPair pair = fresh_seed();
    return std::pair(pair.seed, pair.seed2);
  });
  module.def(
      "check_sampler",
      [](py::handle distribution, py::handle num_true, py::handle num_sampled, py::handle unique,
         py::handle range_max) { sampler_params(distribution, num_true, num_sampled, unique, range_max); },
      py::arg("distribution"), py::arg("num_true"), py::arg("num_sampled"), py::arg("unique"), py::arg("range_max"));
  module.def(
      "check_candidates",
      [](py::handle distribution, py::handle true_classes, py::handle num_true, py::handle num_sampled,
         py::handle unique, py::handle range_max) {
        const SamplerParams params = sampler_params(distribution, num_true, num_sampled, unique, range_max);
        true_classes_in_range(true_classes, integer(num_true, "num_true"), params.distribution);
      },
      py::arg("distribution"), py::arg("true_classes"), py::arg("num_true"), py::arg("num_sampled"), py::arg("unique"),
      py::arg("range_max"));
  module.def("candidates", &candidates, py::arg("distribution"), py::arg("true_classes"), py::arg("num_true"),
             py::arg("num_sampled"), py::arg("unique"), py::arg("range_max"), py::arg("seed"), py::arg("seed2"),
             py::arg("call"), py::arg("device"), py::arg("calls"), py::arg("true_offsets") = py::none(),
             py::arg("num_groups") = py::none(), py::arg("exclude") = py::none(),
             py::arg("exclude_offsets") = py::none());
  module.def("mixed_candidates", &mixed_candidates, py::arg("sources"), py::arg("true_classes"), py::arg("num_true"),
             py::arg("range_max"), py::arg("true_offsets") = py::none(), py::arg("num_groups") = py::none(),
             py::arg("exclude") = py::none(), py::arg("exclude_offsets") = py::none());
  module.def("class_array", &class_array, py::arg("true_classes"), py::arg("num_true"), py::arg("range_max"));
  module.def("id_array", &id_array, py::arg("ids"), py::arg("name"));
  module.def("contains", &contains, py::arg("classes"), py::arg("name"), py::arg("value"));
  module.def("accidental_hits", &find_accidental_hits, py::arg("true_classes"), py::arg("sampled_candidates"),
             py::arg("num_true"));
}

}  // namespace fastnce::bindings
