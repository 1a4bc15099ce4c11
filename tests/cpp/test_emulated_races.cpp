// Races that the emulated device must find although little tells them apart from what is allowed: in parts of words,
// with copies on their way, beside atomics, between three streams. And what it must allow.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "cuda/rows/block_sort.cuh"
#include "emulated_kernels.h"

namespace fastnce::cuda {
namespace {

std::uint16_t* halves(void* memory) { return static_cast<std::uint16_t*>(memory); }
std::uint16_t* shared_halves() { return halves(shared_memory()); }

FASTNCE_KERNEL(64, 1) read_the_first_of_two_halves(FASTNCE_ARGUMENTS Arguments args) {
  if (thread_index() == 0) {
    shared_halves()[0] = 1;
    shared_halves()[1] = 1;
  }
  if (!args.broken) sync_block();
  if (thread_index() == 32 && shared_halves()[0] == 2) shared_halves()[2] = 1;
}

FASTNCE_KERNEL(64, 1) write_the_first_of_two_halves(FASTNCE_ARGUMENTS Arguments args) {
  std::uint16_t* const own = halves(args.memory);
  if (thread_index() == 0 && own[0] == own[1]) own[2] = 1;
  if (!args.broken) sync_block();
  if (thread_index() == 32) own[0] = 1;
}

FASTNCE_KERNEL(64, 1) write_a_half_beside_anothers(FASTNCE_ARGUMENTS Arguments args) {
  const int third = thread_index() < 32 ? thread_index() : args.broken ? 0 : thread_index();
  if (thread_index() < 2 || thread_index() == 33) halves(args.memory)[third] = 1;
}

FASTNCE_KERNEL(64, 1) read_a_half_that_nobody_wrote(FASTNCE_ARGUMENTS Arguments args) {
  shared_halves()[2 * thread_index()] = 1;
  if (shared_halves()[2 * thread_index() + (args.broken ? 1 : 0)] == 2) sync_warp();
}

TEST_F(EmulatedDevice, FindsRacesInPartsOfWords) {
  const Memory memory(256);
  expect_found(read_the_first_of_two_halves, "of shared memory, which");
  expect_found(write_the_first_of_two_halves, "no barrier lies between", memory.data());
  expect_found(write_a_half_beside_anothers, "no barrier lies between", memory.data());
  expect_found(read_a_half_that_nobody_wrote, "which no thread has written");
}

FASTNCE_KERNEL(64, 1) change_halves_in_place(FASTNCE_ARGUMENTS Arguments args) {
  std::uint16_t* const own = halves(args.memory) + thread_index();
  const std::uint16_t value = *own;
  *own = static_cast<std::uint16_t>(value + shuffle_xor(1, 1));
}

FASTNCE_KERNEL(64, 1) end_before_the_barrier(FASTNCE_ARGUMENTS Arguments args) {
  if (thread_index() >= 32) return;
  words()[thread_index()] = 1;
  sync_block();
  static_cast<float*>(args.memory)[32 * block_x() + thread_index()] = static_cast<float>(words()[thread_index() ^ 1]);
}

FASTNCE_KERNEL(64, 1) read_bytes_and_words(FASTNCE_ARGUMENTS Arguments args) {
  auto* const bytes = shared_memory();
  bytes[thread_index()] = 1;
  sync_block();
  std::uint32_t sum = bytes[thread_index() ^ 33] + words()[thread_index() % 16];
  sync_block();
  if (thread_index() < 16) words()[thread_index()] = sum;
  sync_block();
  static_cast<std::uint8_t*>(args.memory)[64 * block_x() + thread_index()] = bytes[thread_index()];
}

TEST_F(EmulatedDevice, AllowsWhatIsInOrder) {
  for (const std::uint64_t seed : kSeeds) {
    emulated::set_seed(seed);
    const Memory memory(512);
    EXPECT_EQ(outcome(change_halves_in_place, {.memory = memory.data()}), "");
    EXPECT_EQ(outcome(end_before_the_barrier, {.memory = memory.data()}, 3), "");
    EXPECT_EQ(outcome(read_bytes_and_words, {.memory = memory.data()}, 3), "");
  }
}

FASTNCE_KERNEL(64, 1) change_what_is_copied(FASTNCE_ARGUMENTS Arguments args) {
  auto* const from = static_cast<std::uint32_t*>(args.memory) + 4 * thread_index();
  *from = 0;
  copy_async(shared_address(shared_memory()) + 16 * static_cast<SharedAddress>(thread_index()), from);
  commit_copies();
  if (!args.broken) wait_for_copies<0>();
  sync_block();
  static_cast<std::uint32_t*>(args.memory)[4 * (thread_index() ^ 32)] = 1;
  wait_for_copies<0>();
}

FASTNCE_KERNEL(64, 1) read_copies_of_threads_that_ended(FASTNCE_ARGUMENTS Arguments args) {
  copy_async(shared_address(shared_memory()) + 16 * static_cast<SharedAddress>(thread_index()),
             static_cast<char*>(args.memory) + 16 * thread_index());
  commit_copies();
  if (!args.broken || thread_index() < 32) wait_for_copies<0>();
  if (thread_index() >= 32) return;
  sync_block();
  if (words()[4 * (thread_index() + 32)] == 7) sync_warp();
}

FASTNCE_KERNEL(64, 1) forget_to_commit(FASTNCE_ARGUMENTS Arguments args) {
  copy_async(shared_address(shared_memory()) + 16 * static_cast<SharedAddress>(thread_index()),
             static_cast<char*>(args.memory) + 16 * thread_index());
  if (!args.broken) commit_copies();
  wait_for_copies<0>();
  if (words()[4 * thread_index()] == 7) sync_warp();
}

TEST_F(EmulatedDevice, FindsWhatAsynchronousCopiesDoNotAllow) {
  const Memory memory(1024);
  expect_found(change_what_is_copied, "have changed while an asynchronous copy", memory.data());
  expect_found(read_copies_of_threads_that_ended, "may still arrive", memory.data());
  expect_found(forget_to_commit, "may still arrive", memory.data());
}

// The thread that comes last reads without an atomic.
FASTNCE_KERNEL(64, 1) read_what_atomics_counted(FASTNCE_ARGUMENTS Arguments args) {
  auto* const count = static_cast<AtomicWord*>(args.memory) + 1;
  const bool last = atomic_add(static_cast<AtomicWord*>(args.memory), 1) % 64 == 63;
  atomic_add(count, 1);
  if (!last) return;
  if ((args.broken ? *count : load_shared_word(count)) == 5) sync_warp();
}

TEST_F(EmulatedDevice, FindsPlainReadsBesideTheAtomicsOfOthers) {
  const Memory memory(16);
  expect_found(read_what_atomics_counted, "no barrier lies between", memory.data());
}

struct Flags {
  std::uint32_t low : 5, high : 27;
  std::uint32_t more[9];
};

FASTNCE_KERNEL(64, 1) read_a_struct(FASTNCE_ARGUMENTS Arguments args) {
  auto* const flags = reinterpret_cast<Flags*>(shared_memory());
  if (thread_index() == 0) flags[0] = Flags{1, 2, {3, 4, 5, 6, 7}};
  if (!args.broken) sync_block();
  if (thread_index() == 40) flags[1] = flags[0];
}

FASTNCE_KERNEL(64, 1) read_a_bit_field(FASTNCE_ARGUMENTS Arguments args) {
  auto* const flags = reinterpret_cast<Flags*>(shared_memory());
  if (thread_index() == 0) flags->high = flags->low = 3;
  if (!args.broken) sync_block();
  if (thread_index() == 40 && flags->low == 3) flags[1].low = 1;
}

FASTNCE_KERNEL(64, 1) read_volatile(FASTNCE_ARGUMENTS Arguments args) {
  if (thread_index() == 0) words()[0] = 3;
  if (!args.broken) sync_block();
  if (thread_index() == 40 && *static_cast<volatile std::uint32_t*>(words()) == 5) sync_warp();
}

TEST_F(EmulatedDevice, SeesEveryKindOfAccess) {
  for (const Kernel kernel : {read_a_struct, read_a_bit_field, read_volatile}) {
    expect_found(kernel, "of shared memory, which");
  }
}

FASTNCE_KERNEL(64, 1) sort_what_nobody_wrote(FASTNCE_ARGUMENTS Arguments args) {
  auto* const entries = reinterpret_cast<std::uint64_t*>(shared_memory());
  if (!args.broken || thread_index() > 0) entries[thread_index()] = 64 - thread_index();
  BlockSort<64, 1>::sort(entries, 0, 8);
  if (entries[thread_index()] == 100) sync_warp();
}

TEST_F(EmulatedDevice, FindsASortOfWhatNobodyHasWritten) {
  expect_found(sort_what_nobody_wrote, "which no thread has written");
}

struct Padded {
  std::int64_t wide;
  bool narrow;
};

FASTNCE_KERNEL(64, 1) read_behind_what_was_written(FASTNCE_ARGUMENTS Arguments args) {
  auto* const all = static_cast<Padded*>(args.memory) + 65 * (args.broken ? 1 : 0);
  all[thread_index()] = {1, true};
  Padded copy = all[thread_index()];
  if (thread_index() == 63 && args.broken) copy = all[64];
  if (copy.wide == 7) sync_warp();
}

FASTNCE_KERNEL(64, 1) count_from_nothing(FASTNCE_ARGUMENTS Arguments args) {
  auto* const counts = static_cast<AtomicWord*>(args.memory) + (args.broken ? 64 : 0);
  if (!args.broken) counts[thread_index()] = 0;
  atomic_add(counts + thread_index(), 1);
}

TEST_F(EmulatedDevice, FindsMemoryThatNothingHasWritten) {
  void* const memory = emulated::allocate(130 * sizeof(Padded), kFirst);
  expect_found(read_behind_what_was_written, "which nothing has written", memory);
  emulated::release(memory, kFirst);
  for (const std::uint64_t seed : kSeeds) {
    emulated::set_seed(seed);
    void* const counts = emulated::allocate(128 * sizeof(AtomicWord), kFirst);
    EXPECT_EQ(outcome(count_from_nothing, {.memory = counts}), "");
    EXPECT_NE(outcome(count_from_nothing, {.broken = true, .memory = counts}).find("nothing has written"),
              std::string::npos);
    emulated::release(counts, kFirst);
  }
}

FASTNCE_KERNEL(64, 1) write_first_half(FASTNCE_ARGUMENTS Arguments args) {
  if (thread_index() == 0) halves(args.memory)[0] = 1;
}
FASTNCE_KERNEL(64, 1) write_second_half(FASTNCE_ARGUMENTS Arguments args) {
  if (thread_index() == 0) halves(args.memory)[1] = 1;
}
FASTNCE_KERNEL(64, 1) read_word(FASTNCE_ARGUMENTS Arguments args) {
  if (thread_index() == 0 && *static_cast<std::uint32_t*>(args.memory) == 7) atomic_min(nullptr, 0);
}
FASTNCE_KERNEL(64, 1) write_word(FASTNCE_ARGUMENTS Arguments args) {
  if (thread_index() == 0) *static_cast<std::uint32_t*>(args.memory) = 5;
}

const Stream kThird{0, reinterpret_cast<void*>(0x300)};

TEST_F(EmulatedDevice, FindsAWriterThatWaitsForOneOfTwoReaders) {
  const Memory memory(4);
  const Arguments arguments{.memory = memory.data()};
  for (const Stream* const forgotten : {&kSecond, &kThird}) {
    const Stream& other = forgotten == &kSecond ? kThird : kSecond;
    ASSERT_EQ(outcome(write_word, arguments), "");
    emulated::wait_for(kSecond, kFirst);
    emulated::wait_for(kThird, kFirst);
    ASSERT_EQ(outcome(read_word, arguments, 1, kSecond), "");
    ASSERT_EQ(outcome(read_word, arguments, 1, kThird), "");
    emulated::wait_for(kFirst, other);
    ASSERT_EQ(outcome(read_word, arguments), "");
    EXPECT_NE(outcome(write_word, arguments).find("does not wait"), std::string::npos);
    emulated::wait_for(kFirst, *forgotten);
    EXPECT_EQ(outcome(write_word, arguments), "");
  }
}

TEST_F(EmulatedDevice, FindsAReaderThatWaitsForOneOfTwoWriters) {
  const Memory memory(4);
  const Arguments arguments{.memory = memory.data()};
  emulated::wait_for(kSecond, kFirst);
  ASSERT_EQ(outcome(write_first_half, arguments), "");
  ASSERT_EQ(outcome(write_second_half, arguments, 1, kSecond), "");
  emulated::wait_for(kThird, kSecond);
  EXPECT_NE(outcome(read_word, arguments, 1, kThird).find("does not wait"), std::string::npos);
  emulated::wait_for(kThird, kFirst);
  EXPECT_EQ(outcome(read_word, arguments, 1, kThird), "");
}

}  // namespace
}  // namespace fastnce::cuda
