// Shared memory of the block that runs: what was written, by whom, and whether a barrier lies between. Fails on
//  - words that one thread writes and another reads or writes with no barrier between them, whatever the order in
//    which they happened to run; within a warp sync_warp() is enough, a shuffle is not;
//  - words that nobody has written;
//  - words that an asynchronous copy in flight owns.
// Copies land at once or not before the wait, at random.
#pragma once

#include <cstddef>
#include <cstdint>

#include "block.h"

namespace fastnce::cuda::emulated {

void begin_shared_memory();  // a new block: nothing is written

enum class Access { kRead, kWrite };
void access_shared(std::size_t offset, std::size_t bytes, Access access);

unsigned char peek(std::size_t offset);  // a byte, for tests: no access

// As in csrc/cuda/device.cuh; `to` is an offset.
void copy_async(std::uint32_t to, const void* from, const Site& site);
void commit_copies(const Site& site);
void wait_for_copies(int pending, const Site& site);

// Of one stage of a pipeline: what the block's threads copied in their first groups.
std::uint32_t stage_bytes();

}  // namespace fastnce::cuda::emulated
