// When memory that consumers share is freed. Needs a device, or the emulated one, which alone reports a use of memory
// that was freed and a free of memory in use.
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "bindings/arrays/device_allocation.h"
#include "device_memory.h"
#include "fastnce/cuda.h"
#include "fastnce/error.h"

namespace fastnce {
namespace {

using Memory = std::shared_ptr<bindings::DeviceAllocation>;

const std::vector<std::int64_t> kIds = {3, 1, 4, 1, 5, 9};

class CudaMemory : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string reason = cuda::unavailable_reason();
    if (!reason.empty()) GTEST_SKIP() << "SKIPPED: no CUDA device: " << reason;
    copy_ = std::make_unique<DeviceArray<std::int64_t>>(kIds.size());
  }

  // Holds kIds.
  static Memory allocate() {
    const std::size_t bytes = kIds.size() * sizeof kIds[0];
    Memory memory = bindings::DeviceAllocation::make(bytes, {});
    copy_to_device(memory->data(), kIds.data(), bytes);
    return memory;
  }

  // Exports memory to a consumer that copies it on its stream, and gives it back before that has happened.
  void lend(Memory memory, const cuda::Stream& consumer) {
    memory->mark_exported();
    cuda::wait_for(consumer, {});
    const auto rows = static_cast<std::int64_t>(kIds.size());
    cuda::copy_ids({.data = memory->data(), .rows = rows, .columns = 1, .row_stride = 1}, copy_->data(), consumer);
  }

  static void allocate_again() { bindings::DeviceAllocation::make(1, {}); }

  static void expect_freed([[maybe_unused]] const void* data, [[maybe_unused]] bool freed) {
#ifdef FASTNCE_EMULATED_CUDA
    const auto read = [&] { cuda::read(static_cast<const std::int64_t*>(data), {}); };
    if (freed) {
      EXPECT_THROW(read(), DeviceError);
    } else {
      EXPECT_NO_THROW(read());
    }
#endif
  }

  std::unique_ptr<DeviceArray<std::int64_t>> copy_;
};

TEST_F(CudaMemory, IsFreedAfterTheConsumersKernels) {
  const OwnStream consumer;
  for (int i = 0; i < 3; ++i) {
    copy_->poison();
    Memory memory = allocate();
    const void* const data = memory->data();
    lend(std::move(memory), consumer);
    expect_freed(data, false);
    allocate_again();
    expect_freed(data, true);
    EXPECT_EQ(copy_->values(), kIds);
  }
}

TEST_F(CudaMemory, MayOutliveTheConsumersStream) {
  lend(allocate(), OwnStream());
  allocate_again();
  EXPECT_EQ(copy_->values(), kIds);
}

TEST_F(CudaMemory, IsFreedAtOnceIfItWasNeverExported) {
  Memory memory = allocate();
  const void* const data = memory->data();
  Memory other = memory;
  memory.reset();
  expect_freed(data, false);
  other.reset();
  expect_freed(data, true);
}

TEST_F(CudaMemory, IsGivenBackByManyThreadsAtOnce) {
  const OwnStream consumer;
  std::vector<const void*> addresses;
  std::vector<std::vector<Memory>> shares(4);
  for (std::vector<Memory>& share : shares) {
    for (int i = 0; i < 50; ++i) addresses.push_back(share.emplace_back(allocate())->data());
  }
  std::vector<std::thread> threads;
  for (std::vector<Memory>& share : shares) {
    threads.emplace_back([&] {
      for (Memory& memory : share) lend(std::move(memory), consumer);
    });
  }
  for (std::thread& thread : threads) thread.join();
  allocate_again();
  for (const void* const data : addresses) expect_freed(data, true);
  EXPECT_EQ(copy_->values(), kIds);
}

}  // namespace
}  // namespace fastnce
