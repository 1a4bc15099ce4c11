// The emulated device itself: small kernels with one fault each, which it must find whatever the schedule, beside the
// same kernels without the fault.
#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "emulated_kernels.h"

namespace fastnce::cuda {
namespace {

FASTNCE_KERNEL(64, 1) read_what_the_other_warp_wrote(FASTNCE_ARGUMENTS Arguments args) {
  words()[thread_index()] = 1;
  if (!args.broken) sync_block();
  const std::uint32_t other = words()[thread_index() ^ 32];
  if (other == 2) words()[thread_index()] = other;
}

TEST_F(EmulatedDevice, FindsABarrierThatIsMissingBetweenWriteAndRead) {
  expect_found(read_what_the_other_warp_wrote, "of shared memory, which");
}

FASTNCE_KERNEL(64, 1) overwrite_what_the_other_warp_reads(FASTNCE_ARGUMENTS Arguments args) {
  words()[thread_index()] = 1;
  sync_block();
  const std::uint32_t other = words()[thread_index() ^ 32];
  if (!args.broken) sync_block();
  words()[thread_index()] = other;
}

TEST_F(EmulatedDevice, FindsABarrierThatIsMissingBetweenReadAndWrite) {
  expect_found(overwrite_what_the_other_warp_reads, "of shared memory, which thread");
}

FASTNCE_KERNEL(64, 1) store_the_same_word(FASTNCE_ARGUMENTS Arguments args) {
  if (args.broken || thread_index() == 0) words()[0] = 7;
}

TEST_F(EmulatedDevice, FindsLanesThatWriteTheSameWord) { expect_found(store_the_same_word, "no barrier lies between"); }

FASTNCE_KERNEL(64, 1) read_what_the_neighbour_wrote(FASTNCE_ARGUMENTS Arguments args) {
  words()[thread_index()] = 1;
  shuffle_xor(1, 1);  // promises nothing about memory
  if (!args.broken) sync_warp();
  const std::uint32_t other = words()[thread_index() ^ 1];
  sync_warp();
  words()[thread_index()] = other;
}

TEST_F(EmulatedDevice, FindsAWarpThatDoesNotSynchronise) {
  expect_found(read_what_the_neighbour_wrote, "of shared memory, which");
}

FASTNCE_KERNEL(64, 1) share_half_words(FASTNCE_ARGUMENTS Arguments args) {
  auto* const halves = reinterpret_cast<std::uint16_t*>(shared_memory());
  halves[args.broken ? thread_index() / 2 : thread_index()] = 1;
}

TEST_F(EmulatedDevice, KnowsThatThreadsMayWriteBothHalvesOfAWord) {
  expect_found(share_half_words, "no barrier lies between");
}

FASTNCE_KERNEL(64, 1) read_what_nobody_wrote(FASTNCE_ARGUMENTS Arguments args) {
  if (!args.broken) words()[thread_index()] = 1;
  if (words()[thread_index()] == 2) words()[thread_index()] = 3;
}

TEST_F(EmulatedDevice, FindsSharedMemoryThatNobodyHasWritten) {
  expect_found(read_what_nobody_wrote, "which no thread has written");
}

FASTNCE_KERNEL(64, 1) write_behind_shared_memory(FASTNCE_ARGUMENTS Arguments args) {
  words()[thread_index() + (args.broken ? 1024 / 4 - 63 : 0)] = 1;
}

TEST_F(EmulatedDevice, FindsTheEndOfSharedMemory) {
  expect_found(write_behind_shared_memory, "of which the block has 1024");
}

FASTNCE_KERNEL(64, 1) write_where_other_blocks_write(FASTNCE_ARGUMENTS Arguments args) {
  static_cast<float*>(args.memory)[args.broken ? thread_index() : 64 * block_x() + thread_index()] = 1.0f;
}

FASTNCE_KERNEL(64, 1) count_without_atomics(FASTNCE_ARGUMENTS Arguments args) {
  auto* const count = static_cast<AtomicWord*>(args.memory);
  if (args.broken && thread_index() == 7) {
    *count += 1;
  } else {
    atomic_add(count, 1);
  }
}

FASTNCE_KERNEL(64, 1) pass_on_through_memory(FASTNCE_ARGUMENTS Arguments args) {
  auto* const own = static_cast<float*>(args.memory) + 64 * block_x();
  own[thread_index()] = 1.0f;
  if (!args.broken) sync_block();
  if (own[thread_index() ^ 32] == 2.0f) sync_warp();
}

TEST_F(EmulatedDevice, FindsGlobalMemoryThatThreadsTouchInNoOrder) {
  const Memory memory(3 * 64 * sizeof(float));
  for (const Kernel kernel : {write_where_other_blocks_write, count_without_atomics, pass_on_through_memory}) {
    expect_found(kernel, "no barrier lies between", memory.data(), 3);
  }
}

FASTNCE_KERNEL(64, 1) read_before_the_copy_arrives(FASTNCE_ARGUMENTS Arguments args) {
  const SharedAddress own = shared_address(shared_memory()) + 16 * static_cast<SharedAddress>(thread_index());
  copy_async(own, static_cast<char*>(args.memory) + 16 * thread_index());
  commit_copies();
  commit_copies();
  args.broken ? wait_for_copies<2>() : wait_for_copies<1>();
  if (words()[4 * thread_index()] == 1) words()[4 * thread_index()] = 2;
}

FASTNCE_KERNEL(64, 1) read_copies_of_others(FASTNCE_ARGUMENTS Arguments args) {
  const SharedAddress own = shared_address(shared_memory()) + 16 * static_cast<SharedAddress>(thread_index());
  copy_async(own, static_cast<char*>(args.memory) + 16 * thread_index());
  commit_copies();
  wait_for_copies<0>();
  if (!args.broken) sync_block();
  if (words()[4 * (thread_index() ^ 32)] == 1) words()[4 * thread_index()] = 2;
}

FASTNCE_KERNEL(64, 1) copy_over_what_is_read(FASTNCE_ARGUMENTS Arguments args) {
  words()[4 * thread_index()] = 1;
  sync_block();
  std::uint32_t other = words()[4 * (thread_index() ^ 32)];
  if (!args.broken) sync_block();
  const SharedAddress own = shared_address(shared_memory()) + 16 * static_cast<SharedAddress>(thread_index());
  copy_async(own, static_cast<char*>(args.memory) + 16 * thread_index());
  commit_copies();
  wait_for_copies<0>();
  if (other == 2) sync_warp();
}

TEST_F(EmulatedDevice, FindsAsynchronousCopiesThatAreNotWaitedFor) {
  const Memory memory(1024);
  expect_found(read_before_the_copy_arrives, "may still arrive", memory.data());
  expect_found(read_copies_of_others, "of shared memory", memory.data());
  expect_found(copy_over_what_is_read, "of shared memory", memory.data());
}

// A copy lands at once or not before it is waited for: this looks without being watched.
FASTNCE_KERNEL(64, 1) look_at_copies(FASTNCE_ARGUMENTS Arguments args) {
  if (thread_index() == 0) {
    copy_async(0, args.memory);
    commit_copies();
    const bool early = emulated::peek(0) != 0xFF;
    wait_for_copies<0>();
    *static_cast<std::int32_t*>(args.memory) = early ? 1 : 2;
  }
}

TEST_F(EmulatedDevice, LetsCopiesLandEarlyAndLate) {
  std::set<std::int32_t> seen;
  for (const std::uint64_t seed : kSeeds) {
    emulated::set_seed(seed);
    const Memory memory(16);
    *static_cast<std::int32_t*>(memory.data()) = 0;
    ASSERT_EQ(outcome(look_at_copies, {.memory = memory.data()}), "");
    seen.insert(*static_cast<std::int32_t*>(memory.data()));
  }
  EXPECT_EQ(seen, (std::set<std::int32_t>{1, 2}));
}

FASTNCE_KERNEL(64, 1) note_the_order(FASTNCE_ARGUMENTS Arguments args) {
  auto* const order = static_cast<AtomicWord*>(args.memory);
  order[1 + atomic_add(order, 1)] = static_cast<AtomicWord>(thread_index());
}

TEST_F(EmulatedDevice, RunsWarpsAndLanesInAnOrderThatTheSeedDecides) {
  std::set<std::vector<AtomicWord>> orders;
  for (const std::uint64_t seed : kSeeds) {
    std::vector<AtomicWord> first;
    for (int time = 0; time < 2; ++time) {
      emulated::set_seed(seed);
      const Memory memory(65 * sizeof(AtomicWord));
      auto* const noted = static_cast<AtomicWord*>(memory.data());
      noted[0] = 0;
      ASSERT_EQ(outcome(note_the_order, {.memory = noted}), "");
      const std::vector<AtomicWord> order(noted + 1, noted + 65);
      if (time == 1) {
        EXPECT_EQ(order, first);
      }
      first = order;
    }
    EXPECT_EQ(std::set(first.begin(), first.end()).size(), 64u);
    orders.insert(first);
  }
  EXPECT_EQ(orders.size(), std::size(kSeeds));
}

FASTNCE_KERNEL(64, 1) leave_out_a_thread(FASTNCE_ARGUMENTS Arguments args) {
  if (args.broken && thread_index() == 17) {
    shuffle_xor(1, 1);
  } else {
    sync_block();
  }
  if (!args.broken) sync_block();
}

FASTNCE_KERNEL(64, 1) wait_at_two_barriers(FASTNCE_ARGUMENTS Arguments args) {
  if (args.broken && thread_index() < 32) {
    sync_block();
  } else {
    sync_block();
  }
}

FASTNCE_KERNEL(64, 1) shuffle_in_half_a_warp(FASTNCE_ARGUMENTS Arguments args) {
  if (!args.broken || thread_index() % 32 < 16) shuffle_xor(1, 1);
}

TEST_F(EmulatedDevice, FindsOperationsThatNotAllThreadsReach) {
  expect_found(leave_out_a_thread, "wait for each other");
  expect_found(wait_at_two_barriers, "while others wait at line");
  expect_found(shuffle_in_half_a_warp, "wait for each other");
}

FASTNCE_KERNEL(64, 1) read_16_bytes(FASTNCE_ARGUMENTS Arguments args) {
  load_16_bytes(static_cast<char*>(args.memory) + 16 * thread_index() + (args.broken ? 8 : 0));
}

FASTNCE_KERNEL(64, 1) write_4_bytes(FASTNCE_ARGUMENTS Arguments args) {
  *reinterpret_cast<float*>(static_cast<char*>(args.memory) + 8 * thread_index() + (args.broken ? 2 : 0)) = 1.0f;
}

TEST_F(EmulatedDevice, FindsAccessesThatAreNotAligned) {
  const Memory memory(2048);
  expect_found(read_16_bytes, "not aligned", memory.data());
  expect_found(write_4_bytes, "not aligned", memory.data());
}

FASTNCE_KERNEL(64, 1) write_the_end(FASTNCE_ARGUMENTS Arguments args) {
  static_cast<float*>(args.memory)[thread_index() + (args.broken ? 1 : 0)] = 1.0f;
}

TEST_F(EmulatedDevice, FindsTheEndOfAnAllocation) {
  const Memory memory(4 * 64);
  expect_found(write_the_end, "of an allocation of 256", memory.data());
}

TEST_F(EmulatedDevice, FindsMemoryThatItDoesNotKnow) {
  float local[65] = {};
  EXPECT_NE(outcome(write_the_end, {.memory = local}).find("outside of every allocation"), std::string::npos);
  emulated::lend(local, sizeof local);
  EXPECT_EQ(outcome(write_the_end, {.memory = local}), "");
  emulated::take_back(local);
}

FASTNCE_KERNEL(1024, 1) do_nothing(FASTNCE_ARGUMENTS Arguments) {}

TEST_F(EmulatedDevice, HasTheLimitsOfEveryChip) {
  const auto launched = [](const Grid& grid, int threads, int shared_bytes) {
    try {
      launch(do_nothing, grid, threads, shared_bytes, kFirst, Arguments{});
    } catch (const DeviceError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(launched({.x = 3, .y = 2}, 1024, 99 * 1024), "");
  EXPECT_NE(launched({.x = 1}, 1056, 0).find("1056 threads"), std::string::npos);
  EXPECT_NE(launched({.x = 1}, 48, 0).find("no whole warps"), std::string::npos);
  EXPECT_NE(launched({.x = 1}, 32, 99 * 1024 + 1).find("bytes of shared memory"), std::string::npos);
  EXPECT_NE(launched({.x = 1, .y = 65'536}, 32, 0).find("65536 blocks along y"), std::string::npos);
  EXPECT_NE(launched({.x = std::int64_t{1} << 31}, 32, 0).find("blocks along x"), std::string::npos);
}

FASTNCE_KERNEL(64, 1) write_own(FASTNCE_ARGUMENTS Arguments args) {
  static_cast<float*>(args.memory)[thread_index()] = 1.0f;
}
FASTNCE_KERNEL(64, 1) read_own(FASTNCE_ARGUMENTS Arguments args) {
  if (static_cast<float*>(args.memory)[thread_index()] == 2.0f) sync_warp();
}

std::string outcome_on(const Stream& stream, Kernel kernel, const Memory& memory) {
  return outcome(kernel, {.memory = memory.data()}, 1, stream);
}

constexpr const char* kDoesNotWait = "does not wait";

TEST_F(EmulatedDevice, FindsAStreamThatDoesNotWaitForWhatItReads) {
  const Memory memory(256);
  EXPECT_EQ(outcome_on(kFirst, write_own, memory), "");
  EXPECT_EQ(outcome_on(kFirst, read_own, memory), "");
  EXPECT_NE(outcome_on(kSecond, read_own, memory).find(kDoesNotWait), std::string::npos);
  emulated::wait_for(kSecond, kFirst);
  EXPECT_EQ(outcome_on(kSecond, read_own, memory), "");
  EXPECT_EQ(outcome_on(kFirst, write_own, memory).find(kDoesNotWait) != std::string::npos, true);
  emulated::wait_for(kFirst, kSecond);
  EXPECT_EQ(outcome_on(kFirst, write_own, memory), "");
  EXPECT_NE(outcome_on(kSecond, read_own, memory).find(kDoesNotWait), std::string::npos);
  emulated::synchronize(kFirst);  // what the host has waited for comes before all that it queues
  EXPECT_EQ(outcome_on(kSecond, read_own, memory), "");
}

TEST_F(EmulatedDevice, FindsAStreamThatUsesMemoryBeforeItIsAllocated) {
  const Memory memory(256);
  EXPECT_NE(outcome_on(kSecond, write_own, memory).find(kDoesNotWait), std::string::npos);
}

TEST_F(EmulatedDevice, FindsMemoryThatIsReleasedWhileAnotherStreamUsesIt) {
  Memory memory(256);
  ASSERT_EQ(outcome_on(kFirst, write_own, memory), "");
  emulated::wait_for(kSecond, kFirst);
  ASSERT_EQ(outcome_on(kSecond, read_own, memory), "");
  EXPECT_THROW(memory.release(kFirst), std::logic_error);
  emulated::wait_for(kFirst, kSecond);
  EXPECT_NO_THROW(memory.release(kFirst));
}

TEST_F(EmulatedDevice, FindsMemoryThatIsUsedAfterItsRelease) {
  Memory memory(256);
  const Arguments arguments{.memory = memory.data()};
  memory.release(kFirst);
  for (const Kernel kernel : {write_own, read_own}) {
    EXPECT_NE(outcome(kernel, arguments).find("memory that was released"), std::string::npos);
  }
  EXPECT_THROW(emulated::release(arguments.memory, kFirst), DeviceError);
}

TEST_F(EmulatedDevice, GoesOnAfterAKernelThatFailed) {
  const Memory memory(256);
  for (int time = 0; time < 3; ++time) {
    EXPECT_NE(outcome(read_what_nobody_wrote, {.broken = true}), "");
    EXPECT_EQ(outcome_on(kFirst, write_own, memory), "");
  }
}

TEST_F(EmulatedDevice, CountsLaunchesAndBytes) {
  const Memory memory(256);
  emulated::reset_counters();
  for (int time = 0; time < 3; ++time) launch(write_own, {.x = 1}, 64, 0, kFirst, Arguments{.memory = memory.data()});
  launch(read_own, {.x = 1}, 64, 0, kFirst, Arguments{.memory = memory.data()});
  const auto counters = emulated::counters();
  EXPECT_EQ(counters.at("write_own").launches, 3);
  EXPECT_EQ(counters.at("write_own").bytes_written, 3 * 256);
  EXPECT_EQ(counters.at("write_own").bytes_read, 0);
  EXPECT_EQ(counters.at("read_own").bytes_read, 256);
}

}  // namespace
}  // namespace fastnce::cuda
