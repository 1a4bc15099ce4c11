// A block of CUDA threads on one thread of the host: each is a coroutine that runs until it has to wait for others.
//
// What it shows: wrong indices, wrong fragment layouts, missing barriers (threads take turns in a shuffled order, a
// different one for each block), barriers that not all threads reach, asynchronous copies not waited for (they are made
// no sooner than that), shared memory read before it is written (it starts as NaNs). What it cannot show: speed, and
// the memory model beyond that.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace fastnce::cuda::emulated {

inline constexpr int kWarpThreads = 32;

struct Copy {
  void* to;
  const void* from;
};

struct Thread {
  int index;
  int block_threads;
  std::int64_t block[2];
  std::int64_t grid_x;
  unsigned char* shared;
  std::vector<std::vector<Copy>> copies;  // by group, the one being formed last
};

// The thread that runs now.
Thread& current();

// Waits for all threads of the block that have not ended.
void sync_block();

// Waits for all threads of the warp. The last to come calls combine(all) on what each of them brought; then all go on.
using Combine = std::function<void(void* const (&all)[kWarpThreads])>;
void meet_warp(void* own, const Combine& combine);

// Runs a kernel's blocks, one after the other. Aborts where threads wait for each other for ever.
void run(const std::int64_t (&blocks)[2], int threads, std::size_t shared_bytes, const std::function<void()>& kernel);

}  // namespace fastnce::cuda::emulated
