// Reading text: words become numbers.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "bindings/arrays/array.h"
#include "bindings/arrays/without_gil.h"
#include "bindings/ops/register.h"
#include "fastnce/error.h"
#include "fastnce/text.h"

namespace fastnce::bindings {

namespace {

TextReader text_reader(const std::string& errors) {
  if (errors == "strict") return TextReader(BadText::kStrict);
  if (errors == "replace") return TextReader(BadText::kReplace);
  if (errors == "ignore") return TextReader(BadText::kIgnore);
  throw InvalidValue(concat("errors = '", errors, "': expected 'strict', 'replace' or 'ignore'"));
}

py::array_t<std::int32_t> as_array(const std::vector<std::int32_t>& ids) {
  return py::array_t<std::int32_t>(std::ssize(ids), ids.data());
}

py::array_t<std::int32_t> ids_of_piece(TextReader& reader, const py::bytes& piece) {
  const std::string_view bytes = piece;  // the caller's, and immutable
  std::vector<std::int32_t> ids;
  {
    const WithoutGil released;
    ids.reserve(bytes.size() / 4);  // English has 5 to 6 bytes a word
    reader.read(bytes, ids);
  }
  return as_array(ids);
}

py::array_t<std::int32_t> ids_of_end(TextReader& reader) {
  std::vector<std::int32_t> ids;
  reader.end(ids);
  return as_array(ids);
}

py::array_t<std::int64_t> occurrences(const TextReader& reader) {
  return py::array_t<std::int64_t>(std::ssize(reader.counts()), reader.counts().data());
}

// The words of these numbers.
py::list words_of(const TextReader& reader, const py::array_t<std::int64_t>& numbers) {
  const std::int64_t size = std::ssize(reader.counts());
  py::list words(static_cast<std::size_t>(numbers.size()));
  for (py::ssize_t i = 0; i < numbers.size(); ++i) {
    const std::int64_t number = numbers.at(i);
    if (number < 0 || number >= size) {
      throw InvalidValue(concat("numbers[", i, "] = ", number, " is outside [0, ", size, ")"));
    }
    const std::string_view word = reader.word(static_cast<std::int32_t>(number));
    words[static_cast<std::size_t>(i)] = py::str(word.data(), word.size());
  }
  return words;
}

}  // namespace

void register_text(py::module_& module) {
  py::class_<TextReader>(module, "TextReader")
      .def(py::init(&text_reader), py::arg("errors"))
      .def("begin", &TextReader::begin, py::arg("name"))
      .def("read", &ids_of_piece, py::arg("piece"))
      .def("end", &ids_of_end)
      .def_property_readonly("counts", &occurrences)
      .def("words", &words_of, py::arg("numbers"));
}

}  // namespace fastnce::bindings
