// Reading text: words, paragraphs, and what is wrong with them. Words are put together from pieces here; cpu/text
// numbers them.
#include "fastnce/text.h"

#include <algorithm>
#include <array>
#include <utility>

#include "cpu/text/utf8.h"
#include "cpu/text/word_table.h"
#include "fastnce/error.h"

namespace fastnce {

namespace {

constexpr std::array<bool, 256> kWhitespace = [] {
  std::array<bool, 256> table{};
  for (const char c : {' ', '\t', '\n', '\v', '\f', '\r'}) table[static_cast<unsigned char>(c)] = true;
  return table;
}();

bool is_whitespace(char c) { return kWhitespace[static_cast<unsigned char>(c)]; }

// The end of the word that begins at `at`. Ors its bytes into `bits`.
const char* end_of_word(const char* at, const char* end, unsigned char& bits) {
  for (; at != end && !is_whitespace(*at); ++at) bits |= static_cast<unsigned char>(*at);
  return at;
}

std::string in_hex(unsigned char byte) {
  constexpr std::string_view digits = "0123456789abcdef";
  return {'0', 'x', digits[byte >> 4], digits[byte & 15]};
}

}  // namespace

struct TextReader::State {
  explicit State(BadText bad) : bad_text(bad) {}

  BadText bad_text;
  cpu::WordTable table;

  std::string name = "the text";
  std::int64_t line = 1;
  std::int64_t piece_at = 0;  // byte of the text with which the current piece begins
  std::int64_t begun_at = 0;  // that of `begun`
  std::string begun;          // a word that may go on in the next piece
  bool paragraph_has_words = false;
  std::string repaired;

  std::string place(std::int64_t byte) const { return concat(name, ", line ", line, ", byte ", byte); }

  void require_length(std::size_t length, std::int64_t at) const {
    if (length <= kLongestWord) return;
    throw InvalidValue(concat(place(at), ": a word of more than ", kLongestWord,
                              " bytes: expected text whose words are separated by spaces; is this a text file?"));
  }

  // The word without what is not UTF-8.
  std::string_view checked(std::string_view word, std::int64_t at) {
    repaired.clear();
    bool bad = false;
    for (std::size_t i = 0; i < word.size();) {
      const cpu::Utf8Sequence sequence = cpu::first_character(word.substr(i));
      if (sequence.valid) {
        repaired.append(word, i, sequence.length);
      } else if (bad_text == BadText::kStrict) {
        throw InvalidValue(concat(place(at + static_cast<std::int64_t>(i)), ": ",
                                  in_hex(static_cast<unsigned char>(word[i])),
                                  " is not UTF-8: expected text in UTF-8; convert it (as with iconv), or pass "
                                  "errors='replace' or errors='ignore'"));
      } else if (bad_text == BadText::kReplace) {
        repaired += "\uFFFD";
      }
      bad = bad || !sequence.valid;
      i += sequence.length;
    }
    return bad ? repaired : word;
  }

  void add(std::string_view word, std::int64_t at, bool ascii, std::vector<std::int32_t>& ids) {
    require_length(word.size(), at);
    if (!ascii) word = checked(word, at);
    if (word.empty()) return;
    ids.push_back(table.add(word));
    paragraph_has_words = true;
  }

  void end_begun(std::vector<std::int32_t>& ids) {
    if (begun.empty()) return;
    add(begun, begun_at, false, ids);
    begun.clear();
  }

  void end_paragraph(std::vector<std::int32_t>& ids) {
    if (paragraph_has_words) ids.push_back(kParagraphEnd);
    paragraph_has_words = false;
  }
};

TextReader::TextReader(BadText bad_text) : state_(std::make_unique<State>(bad_text)) {}
TextReader::TextReader(TextReader&&) noexcept = default;
TextReader::~TextReader() = default;

void TextReader::begin(std::string name) {
  State& state = *state_;
  state.name = std::move(name);
  state.line = 1;
  state.piece_at = 0;
}

void TextReader::read(std::string_view bytes, std::vector<std::int32_t>& ids) {
  State& state = *state_;
  const char* const begin = bytes.data();
  const char* const end = begin + bytes.size();
  const auto place_of = [&](const char* at) { return state.piece_at + (at - begin); };
  const char* at = begin;
  unsigned char bits = 0;
  if (!state.begun.empty()) {
    at = end_of_word(begin, end, bits);
    state.begun.append(begin, at);
    state.require_length(state.begun.size(), state.begun_at);
    if (at != end) state.end_begun(ids);
  }
  while (at != end) {
    if (is_whitespace(*at)) {
      if (*at == '\n') state.end_paragraph(ids), ++state.line;
      ++at;
      continue;
    }
    const char* const word = at;
    bits = 0;
    at = end_of_word(word, end, bits);
    const std::string_view text(word, static_cast<std::size_t>(at - word));
    if (at == end) {
      state.require_length(text.size(), place_of(word));
      state.begun = text;
      state.begun_at = place_of(word);
    } else {
      state.add(text, place_of(word), bits < 0x80, ids);
    }
  }
  state.piece_at += static_cast<std::int64_t>(bytes.size());
}

void TextReader::end(std::vector<std::int32_t>& ids) {
  state_->end_begun(ids);
  state_->end_paragraph(ids);
}

std::span<const std::int64_t> TextReader::counts() const { return state_->table.counts(); }

std::string_view TextReader::word(std::int32_t number) const { return state_->table.word(number); }

}  // namespace fastnce
