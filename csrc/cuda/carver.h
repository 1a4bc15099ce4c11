// Cuts a call's workspace into arrays; without memory it only measures.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastnce::cuda {

class Carver {
 public:
  explicit Carver(void* memory = nullptr) : memory_(static_cast<unsigned char*>(memory)) {}

  template <class T>
  T* take(std::int64_t count) {
    constexpr std::size_t kAlignment = 256;
    const std::size_t at = used_;
    used_ += (static_cast<std::size_t>(count) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + at);
  }
  std::size_t used() const { return used_; }

 private:
  unsigned char* memory_;
  std::size_t used_ = 0;
};

}  // namespace fastnce::cuda
