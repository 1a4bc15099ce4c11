// A set of classes: an open-addressing hash table.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <vector>

#include "cpu/runtime/hash.h"

namespace fastnce::cpu {

class ClassSet {
 public:
  // With room for `expected` classes; more make it grow.
  explicit ClassSet(std::int64_t expected = 0, std::pmr::memory_resource* memory = std::pmr::new_delete_resource())
      : bits_(bits_for(expected)), table_(std::size_t{1} << bits_, kEmpty, memory) {}

  // Removes all classes. Keeps its memory.
  void clear(std::int64_t expected) {
    bits_ = bits_for(expected);
    table_.assign(std::size_t{1} << bits_, kEmpty);
    size_ = 0;
  }

  // Returns whether the class was not there.
  bool insert(std::int64_t id) {
    const std::size_t at = slot_of(id);
    if (table_[at] == id) return false;
    table_[at] = id;
    if (++size_ * 2 > table_.size()) grow();
    return true;
  }

  bool contains(std::int64_t id) const { return table_[slot_of(id)] == id; }

 private:
  static constexpr std::int64_t kEmpty = -1;

  // At most half of the slots are used. A table that fits the L1 cache has twice as many: its cost is that of the
  // branches that collisions make unpredictable.
  static int bits_for(std::int64_t count) {
    constexpr int kLeast = 4, kInL1 = 12;
    const auto slots = 2 * static_cast<std::uint64_t>(std::max<std::int64_t>(count, 1));
    const int half_full = std::max<int>(std::bit_width(slots - 1), kLeast);
    return half_full < kInL1 ? half_full + 1 : half_full;
  }
  // Where the class is, or would be.
  std::size_t slot_of(std::int64_t id) const {
    const std::size_t mask = table_.size() - 1;
    std::size_t at = hash_bits(id, bits_);
    while (table_[at] != kEmpty && table_[at] != id) at = (at + 1) & mask;
    return at;
  }
  void grow() {
    std::pmr::vector<std::int64_t> old(table_.size() * 2, kEmpty, table_.get_allocator());
    old.swap(table_);
    ++bits_;
    for (const std::int64_t id : old) {
      if (id != kEmpty) table_[slot_of(id)] = id;
    }
  }

  int bits_;
  std::pmr::vector<std::int64_t> table_;
  std::size_t size_ = 0;
};

}  // namespace fastnce::cpu
