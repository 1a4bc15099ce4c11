// Memory for one call, kept by the calling thread for its next: an allocation this large would otherwise go back to the
// operating system each time and come back as page faults, which cost more than small problems themselves.
#pragma once

#include <cstddef>
#include <cstdint>

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

// This thread's block, of at least `bytes`, aligned to 64; its content is arbitrary. Throws std::bad_alloc.
std::byte* thread_workspace(std::size_t bytes);

}  // namespace fastnce::cpu
