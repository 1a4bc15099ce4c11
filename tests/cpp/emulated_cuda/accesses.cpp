// What the compiler puts in front of every access to memory when it compiles the kernels with -fsanitize=thread: calls
// of these functions, here in place of the sanitizer's own library.
#include <cstddef>
#include <cstdint>

#include "memory.h"
#include "shared_memory.h"

namespace fastnce::cuda::emulated {

namespace {

// Of a block. Those of the tests make up to 700,000.
constexpr std::int64_t kMostAccesses = 1 << 21;

void access(const void* address, std::size_t bytes, Access access) {
  if (running.thread == nullptr || bytes == 0 || running.is_local(address)) return;
  if (++running.accesses > kMostAccesses) fail("the block does not end");
  const std::size_t offset = running.in_shared(address);
  if (offset < kMostShared) return access_shared(offset, bytes, access);
  access_global(address, bytes, access);
}

template <std::size_t kBytes>
void access_aligned(const void* address, Access kind) {
  if (running.thread == nullptr) return;
  require_aligned(address, kBytes);
  access(address, kBytes, kind);
}

}  // namespace

}  // namespace fastnce::cuda::emulated

using fastnce::cuda::emulated::Access;
using fastnce::cuda::emulated::access;
using fastnce::cuda::emulated::access_aligned;

extern "C" {

void __tsan_init() {}
void __tsan_vptr_update(void**, void*) {}  // host code in the same files

void __tsan_read1(void* address) { access(address, 1, Access::kRead); }
void __tsan_read2(void* address) { access_aligned<2>(address, Access::kRead); }
void __tsan_read4(void* address) { access_aligned<4>(address, Access::kRead); }
void __tsan_read8(void* address) { access_aligned<8>(address, Access::kRead); }
void __tsan_read16(void* address) { access(address, 16, Access::kRead); }
void __tsan_write1(void* address) { access(address, 1, Access::kWrite); }
void __tsan_write2(void* address) { access_aligned<2>(address, Access::kWrite); }
void __tsan_write4(void* address) { access_aligned<4>(address, Access::kWrite); }
void __tsan_write8(void* address) { access_aligned<8>(address, Access::kWrite); }
void __tsan_write16(void* address) { access(address, 16, Access::kWrite); }
// Of structs that are copied: aligned as their members are.
void __tsan_unaligned_read2(void* address) { access(address, 2, Access::kRead); }
void __tsan_unaligned_read4(void* address) { access(address, 4, Access::kRead); }
void __tsan_unaligned_read8(void* address) { access(address, 8, Access::kRead); }
void __tsan_unaligned_read16(void* address) { access(address, 16, Access::kRead); }
void __tsan_unaligned_write2(void* address) { access(address, 2, Access::kWrite); }
void __tsan_unaligned_write4(void* address) { access(address, 4, Access::kWrite); }
void __tsan_unaligned_write8(void* address) { access(address, 8, Access::kWrite); }
void __tsan_unaligned_write16(void* address) { access(address, 16, Access::kWrite); }
void __tsan_read_range(void* address, std::size_t bytes) { access(address, bytes, Access::kRead); }
void __tsan_write_range(void* address, std::size_t bytes) { access(address, bytes, Access::kWrite); }

}  // extern "C"
