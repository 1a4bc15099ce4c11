// Shared memory of the block that runs. Fails on bytes that threads touch with nothing to order them (touch.h), on
// words that no thread has written, and on what an asynchronous copy in flight owns. Copies land at once or not before
// the wait, at random; by then their source must not have changed.
#pragma once

#include <cstddef>
#include <cstdint>

#include "block.h"
#include "touch.h"

namespace fastnce::cuda::emulated {

void begin_shared_memory();  // a new block: nothing is written

void access_shared(std::size_t offset, std::size_t bytes, Access access);

unsigned char peek(std::size_t offset);  // a byte, for tests: no access

// As in csrc/cuda/runtime/device.cuh; `to` is an offset.
void copy_async(std::uint32_t to, const void* from, const Site& site);
void commit_copies(const Site& site);
void wait_for_copies(int pending, const Site& site);

// Of one stage of a pipeline: what the block's threads copied in their first groups.
std::uint32_t stage_bytes();

}  // namespace fastnce::cuda::emulated
