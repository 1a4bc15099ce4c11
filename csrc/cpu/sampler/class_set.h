// A set of classes: an open-addressing hash table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <vector>

#include "cpu/runtime/hash.h"

namespace fastnce::cpu {

class ClassSet {
 public:
  // With room for `expected` classes; more make it grow.
  explicit ClassSet(std::int64_t expected = 0,
                    std::pmr::memory_resource* memory = std::pmr::new_delete_resource())
      : table_(capacity_for(expected), kEmpty, memory) {}

  // Removes all classes. Keeps its memory.
  void clear(std::int64_t expected) {
    table_.assign(capacity_for(expected), kEmpty);
    size_ = 0;
  }

  // Returns whether the class was not there.
  bool insert(std::int64_t id) {
    std::int64_t& slot = table_[slot_of(id)];
    if (slot == id) return false;
    slot = id;
    if (++size_ * 2 > table_.size()) grow();
    return true;
  }

  bool contains(std::int64_t id) const { return table_[slot_of(id)] == id; }

 private:
  static constexpr std::int64_t kEmpty = -1;

  static std::size_t capacity_for(std::int64_t count) {
    std::size_t capacity = 16;
    while (capacity < 2 * static_cast<std::size_t>(count)) capacity *= 2;
    return capacity;
  }
  // Where the class is, or would be.
  std::size_t slot_of(std::int64_t id) const {
    const std::size_t mask = table_.size() - 1;
    std::size_t at = hash_slot(id, table_.size());
    while (table_[at] != kEmpty && table_[at] != id) at = (at + 1) & mask;
    return at;
  }
  void grow() {
    std::pmr::vector<std::int64_t> old(table_.size() * 2, kEmpty, table_.get_allocator());
    old.swap(table_);
    for (const std::int64_t id : old) {
      if (id != kEmpty) table_[slot_of(id)] = id;
    }
  }

  std::pmr::vector<std::int64_t> table_;
  std::size_t size_ = 0;
};

}  // namespace fastnce::cpu
