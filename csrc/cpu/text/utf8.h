// The characters of UTF-8 text.
#pragma once

#include <cstddef>
#include <string_view>

namespace fastnce::cpu {

struct Utf8Sequence {
  std::size_t length;  // bytes, at least 1
  bool valid;
};

// The character that `bytes`, which are not empty, begin with. If they begin with none: as many bytes as could begin
// one, or the first byte. That is what Unicode recommends to replace by one U+FFFD, and what Python replaces.
inline Utf8Sequence first_character(std::string_view bytes) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {1, true};
  if (lead < 0xC2 || lead > 0xF4) return {1, false};
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte excludes characters written too long (E0, F0), surrogates (ED), and those above U+10FFFF (F4).
  unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (std::size_t i = 1; i < length; ++i) {
    if (i == bytes.size() || byte(i) < low || byte(i) > high) return {i, false};
    low = 0x80, high = 0xBF;
  }
  return {length, true};
}

}  // namespace fastnce::cpu
