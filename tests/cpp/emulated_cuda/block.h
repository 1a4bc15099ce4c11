// A block of CUDA threads on one thread of the host: each is a coroutine that runs until it has to wait for others.
//
// The schedule is hostile: one warp runs at a time, as far as it gets, in random order; between the operations of a
// whole warp its lanes run singly, in random order. All that is random comes from one seed: FASTNCE_EMULATED_SEED in
// the environment, or set_seed().
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>

namespace fastnce::cuda::emulated {

inline constexpr int kWarpThreads = 32;
inline constexpr int kMostThreads = 1024;
inline constexpr std::size_t kMostShared = 99 * 1024;  // of compute capability 8.6, 8.9 and 12.0

// Where in the kernels an operation stands.
using Site = std::source_location;

struct Thread {
  int index = 0;
  int block_threads = 0;
  std::int64_t block[2] = {};
  std::int64_t grid_x = 0;
  Site last_barrier{};
  bool owes_barrier = false;  // of a mutation: it goes through the barrier when it next commits copies
};

// What accesses to memory are judged by. `thread` is null unless a kernel runs on this thread of the host.
struct Running {
  Thread* thread = nullptr;
  unsigned char* shared = nullptr;
  std::size_t shared_bytes = 0;
  const char* stacks = nullptr;  // of all threads
  std::size_t stack_bytes = 0;
  std::int64_t accesses = 0;                         // of the block so far
  std::uint32_t interval = 0;                        // from barrier to barrier; no two blocks have the same
  std::uint32_t first_interval = 0;                  // of the block
  std::uint32_t warp_syncs[kMostThreads / 32] = {};  // sync_warp()s of each warp so far

  bool is_local(const void* address) const {
    return static_cast<std::size_t>(static_cast<const char*>(address) - stacks) < stack_bytes;
  }
  std::size_t in_shared(const void* address) const {  // below shared_bytes where it is
    return static_cast<std::size_t>(static_cast<const unsigned char*>(address) - shared);
  }
};
[[gnu::tls_model("initial-exec")]] extern constinit thread_local Running running;

// Of the thread that runs. Not inline: what kernels compile is watched, and these are no accesses of theirs.
int thread_index();
int block_threads();
std::int64_t block_x();
std::int64_t block_y();
std::int64_t grid_x();
unsigned char* shared_memory();

// Ends the kernel that runs: run() throws a DeviceError that says what happened where.
[[noreturn]] void fail(const std::string& what);

// Waits for all threads of the block that have not ended.
void sync_block(const Site& site);

// Waits for all threads of the warp. The last to come calls combine(all) on what each of them brought; then all go on.
using Combine = void (*)(void* const (&all)[kWarpThreads]);
void meet_warp(void* own, Combine combine, const Site& site);
// The same for the block.
using CombineBlock = void (*)(void* const* all, int threads);
void meet_block(void* own, CombineBlock combine, const Site& site);

// As meet_warp(), and all see what each has written before.
void sync_warp(const Site& site);

std::uint32_t random_number();
void set_seed(std::uint64_t seed);
std::uint64_t seed();

// Runs a kernel's blocks, one after the other in random order; each thread calls kernel(context). Fails where threads
// wait for each other for ever. Returns how many blocks it has run.
std::int64_t run(const char* name, const std::int64_t (&blocks)[2], int threads, std::size_t shared_bytes,
                 void (*kernel)(const void*), const void* context);

// From now on, of kernels with this name only so many blocks of a launch run: their results are wrong then, but bytes
// are counted as if all had run.
void run_at_most(const std::string& name, std::int64_t blocks);

}  // namespace fastnce::cuda::emulated
