#include <gtest/gtest.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "cpu/text/utf8.h"
#include "fastnce/error.h"
#include "fastnce/text.h"

namespace fastnce {
namespace {

using Ids = std::vector<std::int32_t>;

struct Read {
  Ids ids;
  std::vector<std::string> words;
  std::vector<std::int64_t> counts;
  bool operator==(const Read&) const = default;
};

// The text in pieces of so many bytes.
Read read_in_pieces(std::string_view text, std::size_t piece, BadText bad_text = BadText::kStrict) {
  TextReader reader(bad_text);
  Read read;
  reader.begin("a.txt");
  for (std::size_t i = 0; i < text.size(); i += piece) reader.read(text.substr(i, piece), read.ids);
  reader.end(read.ids);
  read.counts.assign(reader.counts().begin(), reader.counts().end());
  for (std::size_t i = 0; i < read.counts.size(); ++i) {
    read.words.emplace_back(reader.word(static_cast<std::int32_t>(i)));
  }
  return read;
}

std::string message_of(std::string_view text, std::size_t piece) {
  try {
    read_in_pieces(text, piece);
  } catch (const InvalidValue& error) {
    return error.what();
  }
  return "";
}

TEST(TextReader, NumbersWordsByFirstOccurrenceAndSeparatesParagraphs) {
  const Read read = read_in_pieces("to be\r\n\n or not\tto be\n", 1000);
  EXPECT_EQ(read.ids, (Ids{0, 1, kParagraphEnd, 2, 3, 0, 1, kParagraphEnd}));
  EXPECT_EQ(read.words, (std::vector<std::string>{"to", "be", "or", "not"}));
  EXPECT_EQ(read.counts, (std::vector<std::int64_t>{2, 2, 1, 1}));
}

TEST(TextReader, DoesNotCareWhereAPieceEnds) {
  const std::string text =
      "na\u00EFve caf\u00E9 \u4E2D\u6587\n\n\U0001F600\xFF x\xE4\xB8 caf\u00E9\xC3\n\xED\xA0\x80 end";
  for (const BadText bad_text : {BadText::kReplace, BadText::kIgnore}) {
    const Read whole = read_in_pieces(text, text.size(), bad_text);
    for (std::size_t piece = 1; piece < text.size(); ++piece) {
      EXPECT_EQ(read_in_pieces(text, piece, bad_text), whole) << piece;
    }
  }
  for (std::size_t piece = 1; piece <= text.size(); ++piece) {
    EXPECT_EQ(message_of(text, piece).substr(0, 29), "a.txt, line 3, byte 25: 0xff ") << piece;
  }
}

TEST(TextReader, KeepsNulAndOtherControlCharactersInWords) {
  EXPECT_EQ(read_in_pieces({"a\0b a\0b\x1c", 8}, 3).words, (std::vector<std::string>{{"a\0b", 3}, {"a\0b\x1c", 4}}));
}

// A hash table that grows, and texts that fill several blocks.
TEST(TextReader, NumbersManyWords) {
  constexpr std::int32_t kWords = 300'000;
  std::string text;
  Ids expected;
  for (std::int32_t i = 0; i < 2 * kWords; ++i) {
    text += concat("word", i % kWords, ' ');
    expected.push_back(i % kWords);
  }
  expected.push_back(kParagraphEnd);
  const Read read = read_in_pieces(text, 1 << 20);
  EXPECT_EQ(read.ids, expected);
  EXPECT_EQ(read.words[kWords - 1], concat("word", kWords - 1));
  EXPECT_EQ(read.counts, std::vector<std::int64_t>(kWords, 2));
}

TEST(TextReader, RefusesEndlessWordsBeforeTheyFillTheMemory) {
  const std::string longest(kLongestWord, 'a');
  EXPECT_EQ(read_in_pieces(longest + " b", 1000).words[0], longest);
  for (const std::size_t piece : {1000, 1 << 20}) {
    EXPECT_EQ(
        message_of("b\n c " + longest + "a", piece),
        "a.txt, line 2, byte 5: a word of more than 65536 bytes: expected text whose words are separated by spaces; "
        "is this a text file?");
  }
}

TEST(TextReader, CountsLinesAndBytesOfEachTextAnew) {
  TextReader reader(BadText::kStrict);
  Ids ids;
  reader.begin("a.txt");
  reader.read("x\ny", ids);
  reader.end(ids);
  reader.begin("b.txt");
  EXPECT_EQ(ids, (Ids{0, kParagraphEnd, 1, kParagraphEnd}));
  try {
    reader.read("z \x80 ", ids);
    FAIL();
  } catch (const InvalidValue& error) {
    EXPECT_EQ(std::string_view(error.what()).substr(0, 28), "b.txt, line 1, byte 2: 0x80 ");
  }
}

TEST(Utf8, CharactersAreThoseOfUnicode) {
  const std::map<std::string, std::size_t> valid = {{"a", 1},
                                                    {"\xC2\x80", 2},
                                                    {"\xE0\xA0\x80", 3},
                                                    {"\xED\x9F\xBF", 3},
                                                    {"\xEF\xBF\xBF", 3},
                                                    {"\xF0\x90\x80\x80", 4},
                                                    {"\xF4\x8F\xBF\xBF", 4}};
  for (const auto& [bytes, length] : valid) {
    EXPECT_TRUE(cpu::first_character(bytes).valid);
    EXPECT_EQ(cpu::first_character(bytes + "\x80").length, length);
  }
  // Too long, surrogates, above U+10FFFF, cut off, no lead byte.
  const std::map<std::string, std::size_t> invalid = {{"\xC0\x80", 1},
                                                      {"\xE0\x9F\xBF", 1},
                                                      {"\xED\xA0\x80", 1},
                                                      {"\xF0\x8F\xBF\xBF", 1},
                                                      {"\xF4\x90\x80\x80", 1},
                                                      {"\xF5\x80\x80", 1},
                                                      {"\xE4\xB8", 2},
                                                      {"\xF0\x90\x80x", 3},
                                                      {"\xC3", 1},
                                                      {"\x80", 1}};
  for (const auto& [bytes, length] : invalid) {
    EXPECT_FALSE(cpu::first_character(bytes).valid);
    EXPECT_EQ(cpu::first_character(bytes).length, length);
  }
}

}  // namespace
}  // namespace fastnce
