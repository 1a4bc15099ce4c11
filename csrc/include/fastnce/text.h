// A text as numbers: splits UTF-8 text into words and counts them, in one pass over its bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fastnce {

// What becomes of bytes that are not UTF-8.
enum class BadText {
  kStrict,   // an error that names line and byte
  kReplace,  // U+FFFD, as in Python's decode(errors="replace")
  kIgnore,   // they are left out
};

// Stands between paragraphs, beside the numbers of words.
inline constexpr std::int32_t kParagraphEnd = -1;

// The longest word in bytes. A binary file or a file without whitespace would fill the memory otherwise.
inline constexpr std::size_t kLongestWord = std::size_t{1} << 16;

// Words are what stands between ASCII whitespace; a line feed also ends a paragraph, and paragraphs without words do
// not count. A word is numbered by its first occurrence: 0, 1, ... Memory: some 60 bytes and its text for each
// different word, and nothing that grows with the text. After an exception the reader must not be used.
class TextReader {
 public:
  explicit TextReader(BadText bad_text);
  TextReader(TextReader&&) noexcept;
  ~TextReader();

  // Begins a text; lines and bytes are counted from here. `name` is for errors.
  void begin(std::string name);

  // Reads the next bytes, which may end anywhere, even inside of a character. Appends the numbers of the words that
  // ended. Throws InvalidValue for bytes that are not UTF-8 (kStrict), for a word longer than kLongestWord, and for
  // more than 2^31 - 1 different words.
  void read(std::string_view bytes, std::vector<std::int32_t>& ids);

  // Ends the text, and with it its last word and paragraph.
  void end(std::vector<std::int32_t>& ids);

  // How often each word occurred in all texts, by number.
  std::span<const std::int64_t> counts() const;
  // Valid as long as the reader lives.
  std::string_view word(std::int32_t number) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fastnce
