// Scratch memory of one call, kept by the calling thread for its next one. Otherwise the allocator would return a block
// this large to the operating system after each call, and page faults would cost more than a small problem itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory_resource>

namespace fastnce::cpu {

// Carves arrays, each aligned to 64 bytes, out of one block. Construct it twice with the same sequence of take():
// first without memory to learn the size, then on a block of that size.
class Carver {
 public:
  Carver() = default;
  explicit Carver(std::byte* memory) : memory_(memory) {}

  template <class T>
  T* take(std::int64_t count) {
    constexpr std::size_t kAlignment = 64;
    T* taken = memory_ != nullptr ? reinterpret_cast<T*>(memory_ + used_) : nullptr;
    used_ += (static_cast<std::size_t>(count) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return taken;
  }
  std::size_t used() const { return used_; }

 private:
  std::byte* memory_ = nullptr;
  std::size_t used_ = 0;
};

// A block of at least `bytes`, aligned to 64, of arbitrary content. Up to kKeptBytes the calling thread keeps it for
// its next call; a call within a call gets a block of its own. Throws std::bad_alloc.
class Workspace {
 public:
  static constexpr std::size_t kKeptBytes = std::size_t{64} << 20;

  explicit Workspace(std::size_t bytes);
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  std::byte* memory() const { return memory_; }

 private:
  std::byte* memory_;
  bool kept_;
};

// Thread-local pool for scratch whose size is not known in advance. Blocks of up to 64 KiB are reused by the thread's
// next call. Only the calling thread may use it.
std::pmr::memory_resource* call_memory();

}  // namespace fastnce::cpu
