// Numbers words by their first occurrence and counts them: a hash table whose texts lie in an arena.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace fastnce::cpu {

class WordTable {
 public:
  WordTable();

  // The number of a word, which is not empty, after counting it once more. Throws InvalidValue for more than 2^31 - 1
  // words.
  std::int32_t add(std::string_view word);

  std::string_view word(std::int32_t number) const { return texts_[static_cast<std::size_t>(number)]; }
  std::span<const std::int64_t> counts() const { return counts_; }

 private:
  // Most probes are decided by the hash, without a look at the text. 8 bytes, so that eight share a cache line.
  struct Slot {
    std::uint32_t hash;
    std::int32_t number;  // -1: empty
  };

  std::int32_t insert(std::string_view word, std::uint32_t hash, std::size_t slot);
  std::string_view keep(std::string_view word);
  void grow();

  std::vector<Slot> slots_;  // a power of two, at most half of them full; linear probing
  std::vector<std::string_view> texts_;
  std::vector<std::int64_t> counts_;
  std::vector<std::unique_ptr<char[]>> blocks_;  // the arena
  char* free_ = nullptr;                         // the rest of the last block
  std::size_t left_ = 0;                         // its bytes
};

}  // namespace fastnce::cpu
