// Memory for one call, kept by the calling thread for its next: an allocation this large would otherwise go back to the
// operating system each time and come back as page faults, which cost more than small problems themselves.
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
// its next call. Throws std::bad_alloc.
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

// For arrays of a call whose sizes only show as it goes on: what the calling thread gives back here, up to some 64 KiB
// apiece, it keeps for its next call. To be used by that thread alone.
std::pmr::memory_resource* call_memory();

}  // namespace fastnce::cpu
