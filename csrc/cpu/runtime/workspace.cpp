#include "cpu/runtime/workspace.h"

#include <memory>
#include <new>

namespace fastnce::cpu {

namespace {

constexpr std::align_val_t kAlignment{64};

std::byte* allocate(std::size_t bytes) { return static_cast<std::byte*>(::operator new(bytes, kAlignment)); }

struct Release {
  void operator()(std::byte* memory) const { ::operator delete(memory, kAlignment); }
};

// What a thread keeps between calls.
struct Kept {
  std::unique_ptr<std::byte, Release> memory;
  std::size_t size = 0;
  bool taken = false;  // by a call in progress: a signal handler that it polls may call the library, too
};
thread_local Kept kept;

}  // namespace

Workspace::Workspace(std::size_t bytes) : kept_(bytes <= kKeptBytes && !kept.taken) {
  if (!kept_) {
    memory_ = allocate(bytes);
    return;
  }
  if (bytes > kept.size) {
    kept = {};  // before the new block, so that the two never add up
    kept.memory.reset(allocate(bytes));
    kept.size = bytes;
  }
  memory_ = kept.memory.get();
  kept.taken = true;
}

Workspace::~Workspace() {
  if (kept_) {
    kept.taken = false;
  } else {
    Release{}(memory_);
  }
}

std::pmr::memory_resource* call_memory() {
  thread_local std::pmr::unsynchronized_pool_resource pool(
      {.max_blocks_per_chunk = 4, .largest_required_pool_block = std::size_t{64} << 10});
  return &pool;
}

}  // namespace fastnce::cpu
