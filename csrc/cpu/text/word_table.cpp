// A hash table of words.
#include "cpu/text/word_table.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "fastnce/error.h"

namespace fastnce::cpu {

namespace {

constexpr std::size_t kFirstSlots = std::size_t{1} << 16;
constexpr std::size_t kBlock = std::size_t{1} << 20;

template <class T>
T load(const char* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

// Up to 8 bytes as a number. Overlapping loads, so that nothing beyond the word is read.
std::uint64_t load_tail(const char* from, std::size_t size) {
  if (size >= 4) return load<std::uint32_t>(from) | std::uint64_t{load<std::uint32_t>(from + size - 4)} << 32;
  const auto byte = [&](std::size_t i) { return std::uint64_t{static_cast<unsigned char>(from[i])}; };
  return byte(0) | byte(size / 2) << 8 | byte(size - 1) << 16;
}

std::uint64_t mixed(std::uint64_t hash, std::uint64_t bytes) {
  const auto product = static_cast<unsigned __int128>(hash ^ bytes) * 0x9E3779B97F4A7C15u;  // 2^64 / golden ratio
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

std::uint32_t hash_of(std::string_view word) {
  std::uint64_t hash = word.size();
  const char* at = word.data();
  std::size_t left = word.size();
  for (; left > 8; left -= 8, at += 8) hash = mixed(hash, load<std::uint64_t>(at));
  return static_cast<std::uint32_t>(mixed(hash, load_tail(at, left)) >> 32);
}

}  // namespace

WordTable::WordTable() : slots_(kFirstSlots, Slot{0, -1}) {}

std::int32_t WordTable::add(std::string_view word) {
  const std::uint32_t hash = hash_of(word);
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t i = hash & mask;; i = (i + 1) & mask) {
    const Slot slot = slots_[i];
    if (slot.number < 0) return insert(word, hash, i);
    if (slot.hash == hash && texts_[static_cast<std::size_t>(slot.number)] == word) {
      ++counts_[static_cast<std::size_t>(slot.number)];
      return slot.number;
    }
  }
}

std::int32_t WordTable::insert(std::string_view word, std::uint32_t hash, std::size_t slot) {
  if (counts_.size() == std::size_t{std::numeric_limits<std::int32_t>::max()}) {
    throw InvalidValue(concat("a vocabulary of more than ", counts_.size(), " different words: expected fewer"));
  }
  const auto number = static_cast<std::int32_t>(counts_.size());
  texts_.push_back(keep(word));
  counts_.push_back(1);
  slots_[slot] = {hash, number};
  if (2 * counts_.size() > slots_.size()) grow();
  return number;
}

std::string_view WordTable::keep(std::string_view word) {
  if (left_ < word.size()) {
    left_ = std::max(kBlock, word.size());
    blocks_.push_back(std::make_unique_for_overwrite<char[]>(left_));
    free_ = blocks_.back().get();
  }
  std::memcpy(free_, word.data(), word.size());
  const std::string_view kept(free_, word.size());
  free_ += word.size(), left_ -= word.size();
  return kept;
}

void WordTable::grow() {
  std::vector<Slot> slots(2 * slots_.size(), Slot{0, -1});
  const std::size_t mask = slots.size() - 1;
  for (const Slot& slot : slots_) {
    if (slot.number < 0) continue;
    std::size_t i = slot.hash & mask;
    while (slots[i].number >= 0) i = (i + 1) & mask;
    slots[i] = slot;
  }
  slots_ = std::move(slots);
}

}  // namespace fastnce::cpu
