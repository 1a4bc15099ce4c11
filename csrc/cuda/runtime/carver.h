// Cuts a call's workspace into arrays; without memory it only measures.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastnce/cuda.h"
#include "fastnce/error.h"

namespace fastnce::cuda {

class Carver {
 public:
  static constexpr std::size_t kAlignment = 256;

  Carver() = default;
  explicit Carver(const Workspace& workspace) : memory_(static_cast<unsigned char*>(workspace.data)) {}

  template <class T>
  T* take(std::int64_t count) {
    const std::size_t at = used_;
    used_ += (static_cast<std::size_t>(count) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + at);
  }
  std::size_t used() const { return used_; }

  // Throws InvalidValue unless everything taken lies within `workspace`, aligned. Checked afterwards, because measuring
  // first would query the sort's scratch size twice.
  void require_within(const Workspace& workspace) const {
    if (used_ > workspace.bytes || (used_ > 0 && workspace.data == nullptr)) {
      throw InvalidValue(concat("workspace has ", workspace.bytes, " bytes: expected ", used_));
    }
    if (reinterpret_cast<std::uintptr_t>(workspace.data) % kAlignment != 0) {
      throw InvalidValue(concat("workspace is at ", workspace.data, ": expected alignment to ", kAlignment, " bytes"));
    }
  }

 private:
  unsigned char* memory_ = nullptr;
  std::size_t used_ = 0;
};

}  // namespace fastnce::cuda
