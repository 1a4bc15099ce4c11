// Small kernels for the emulated device, each correct or with one fault, which it must find whatever the schedule.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "cuda/runtime/device.cuh"
#include "fastnce/error.h"

namespace fastnce::cuda {

inline constexpr std::uint64_t kSeeds[] = {1, 2, 3, 4, 5};
inline const Stream kFirst{0, reinterpret_cast<void*>(0x100)}, kSecond{0, reinterpret_cast<void*>(0x200)};

class EmulatedDevice : public ::testing::Test {
 protected:
  void TearDown() override {
    emulated::set_seed(1);
    emulated::synchronize();
  }
};

// Memory for the kernels of a test, on the first stream. Zeros from the host, so that kernels may read it.
class Memory {
 public:
  explicit Memory(std::size_t bytes) : data_(emulated::allocate(bytes, kFirst)) {
    std::memset(data_, 0, bytes);
    emulated::note_host_write(data_);
  }
  Memory(const Memory&) = delete;
  ~Memory() {
    if (data_ == nullptr) return;
    emulated::synchronize();
    emulated::release(data_, kFirst);
  }
  void* data() const { return data_; }
  void release(const Stream& stream) {
    emulated::release(data_, stream);
    data_ = nullptr;
  }

 private:
  void* data_;
};

// What a kernel of a block of two warps takes: which fault it has, and memory.
struct Arguments {
  bool broken = false;
  void* memory = nullptr;
};
using Kernel = void (*)(Arguments);

// What the device says, or nothing.
inline std::string outcome(Kernel kernel, const Arguments& arguments, std::int64_t blocks = 1,
                           const Stream& stream = kFirst) {
  try {
    launch(kernel, {.x = blocks}, 64, 1024, stream, arguments);
  } catch (const DeviceError& error) {
    return error.what();
  }
  return "";
}

inline void expect_found(Kernel kernel, const std::string& message, void* memory = nullptr, std::int64_t blocks = 1) {
  for (const std::uint64_t seed : kSeeds) {
    emulated::set_seed(seed);
    EXPECT_EQ(outcome(kernel, {.broken = false, .memory = memory}, blocks), "") << "seed " << seed;
    const std::string found = outcome(kernel, {.broken = true, .memory = memory}, blocks);
    EXPECT_NE(found.find(message), std::string::npos) << "seed " << seed << ": " << found;
  }
}

inline std::uint32_t* words() { return reinterpret_cast<std::uint32_t*>(shared_memory()); }

}  // namespace fastnce::cuda
