// Training of word vectors on pieces of a text.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "bindings/arrays/array.h"
#include "bindings/arrays/class_range.h"
#include "bindings/arrays/without_gil.h"
#include "bindings/ops/register.h"
#include "fastnce/error.h"
#include "fastnce/skip_gram.h"

namespace fastnce::bindings {

namespace {

constexpr Place kTables{.decided_by = "vectors"};

SkipGramLoss loss_named(const std::string& name) {
  constexpr std::array<std::pair<const char*, SkipGramLoss>, 3> kLosses = {{
      {"negative_sampling", SkipGramLoss::kNegativeSampling},
      {"nce", SkipGramLoss::kNce},
      {"sampled_softmax", SkipGramLoss::kSampledSoftmax},
  }};
  for (const auto& [known, loss] : kLosses) {
    if (name == known) return loss;
  }
  throw InvalidValue(concat("loss = '", name, "': expected 'negative_sampling', 'nce' or 'sampled_softmax'"));
}

// A table that is trained in place.
struct TrainedTable {
  TrainedTable(py::handle object, const char* name) : array(borrow(object, name, kTables)) {
    if (!py::isinstance<py::array>(object)) throw InvalidType(concat(name, is_a(object), ": expected a NumPy array"));
    if (floating_type(array) != DType::kFloat32) {
      throw InvalidType(concat(name, " has dtype ", array.type_name(), ": expected float32"));
    }
    require_matrix(array, "[V, D]");
    if (!py::reinterpret_borrow<py::array>(object).writeable()) {
      throw InvalidValue(concat(name, " is read-only: expected an array that can be written to"));
    }
  }

  EmbeddingTable table() const {
    // Trained in place: the caller gave an array that can be written to.
    return {reinterpret_cast<float*>(const_cast<std::byte*>(array.data)), array.strides[0]};
  }

  Array array;
};

std::vector<std::int64_t> counts_of(py::handle object) {
  const Array counts = borrow_or_convert(object, "counts", {.decided_by = "counts"});
  require_rank(counts, 1, "[V]");
  return copy_ids(counts);
}

// The tables and what trains them.
class TrainedSkipGram {
 public:
  TrainedSkipGram(py::handle vectors, py::handle outputs, py::handle counts, const SkipGramOptions& options)
      : vectors_(vectors, "vectors"), outputs_(outputs, "outputs"), model_(options, counts_of(counts)) {
    const std::int64_t words = model_.num_words();
    if (vectors_.array.shape[0] != words) {
      throw InvalidValue(concat("vectors has shape ", vectors_.array.shape_text(), ": expected [V, D] with V = ", words,
                                ", as counts has"));
    }
    if (outputs_.array.shape != vectors_.array.shape) {
      throw InvalidValue(concat("outputs has shape ", outputs_.array.shape_text(), ": expected that of vectors, ",
                                vectors_.array.shape_text()));
    }
  }

  py::tuple train(py::handle ids, std::uint64_t place, std::pair<double, double> rates, py::handle threads) {
    const Array text = borrow(ids, "ids", {.decided_by = "ids"});
    require_rank(text, 1, "[N]");
    if (text.type.code != dl::kInt || text.type.bits != 32) {
      throw InvalidType(concat("ids has dtype ", text.type_name(), ": expected int32"));
    }
    if (text.shape[0] > 1 && text.strides[0] != 1) {
      throw InvalidValue(concat("ids has a stride of ", text.strides[0], " elements: expected contiguous memory"));
    }
    const auto* const given = reinterpret_cast<const std::int32_t*>(text.data);
    const std::vector<std::int32_t> copied(given, given + text.shape[0]);  // what is checked must not change afterwards
    const SkipGramText piece{.ids = copied, .place = place, .first_rate = rates.first, .last_rate = rates.second};
    const std::int64_t most_threads = integer(threads, "threads");
    const SkipGramProgress progress = [&] {
      const WithoutGil released;  // safe: tables are borrowed, ids copied; nothing below touches a Python object
      return model_.train(vectors_.table(), outputs_.table(), vectors_.array.shape[1], piece, most_threads);
    }();
    return py::make_tuple(progress.loss, progress.pairs, progress.kept);
  }

  const SkipGram& model() const { return model_; }

 private:
  TrainedTable vectors_, outputs_;
  SkipGram model_;
};

}  // namespace

void register_skip_gram(py::module_& module) {
  py::class_<TrainedSkipGram>(module, "SkipGram")
      .def(py::init([](py::handle vectors, py::handle outputs, py::handle counts, py::handle window,
                       py::handle negative, double sample, double ns_exponent, const std::string& loss,
                       std::uint64_t seed, py::handle precision) {
             return TrainedSkipGram(vectors, outputs, counts,
                                    {.window = integer(window, "window"),
                                     .negative = integer(negative, "negative"),
                                     .sample = sample,
                                     .ns_exponent = ns_exponent,
                                     .loss = loss_named(loss),
                                     .seed = seed,
                                     .precision = precision_argument(precision)});
           }),
           py::arg("vectors"), py::arg("outputs"), py::arg("counts"), py::arg("window") = 5, py::arg("negative") = 5,
           py::arg("sample") = 1e-3, py::arg("ns_exponent") = 0.75, py::arg("loss") = "negative_sampling",
           py::arg("seed") = 1, py::arg("precision") = "highest")
      .def("train", &TrainedSkipGram::train, py::arg("ids"), py::arg("place"), py::arg("rates"), py::arg("threads"))
      .def_property_readonly("num_samples", [](const TrainedSkipGram& self) { return self.model().num_samples(); })
      .def(
          "block_positions",
          [](const TrainedSkipGram& self, double rate) { return self.model().block_positions(rate); }, py::arg("rate"));
}

}  // namespace fastnce::bindings
