#include "cpu/workspace.h"

#include <memory>
#include <new>

namespace fastnce::cpu {

namespace {

constexpr std::align_val_t kAlignment{64};

struct Release {
  void operator()(std::byte* memory) const { ::operator delete(memory, kAlignment); }
};

}  // namespace

std::byte* thread_workspace(std::size_t bytes) {
  thread_local std::unique_ptr<std::byte, Release> memory;
  thread_local std::size_t size = 0;
  if (bytes > size) {
    memory.reset();  // before the new block, so that the two never add up
    size = 0;
    memory.reset(static_cast<std::byte*>(::operator new(bytes, kAlignment)));
    size = bytes;
  }
  return memory.get();
}

}  // namespace fastnce::cpu
