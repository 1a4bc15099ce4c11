// Who has touched a word of memory within one kernel, and whether that comes before what the current thread does. Two
// threads of a block are ordered by a barrier between them, two lanes of a warp also by sync_warp(), two blocks by
// nothing. Shuffles order nothing, nor does the order in which threads happen to run.
#pragma once

#include <cstdint>
#include <string>

#include "block.h"

namespace fastnce::cuda::emulated {

enum class Access { kRead, kWrite, kAtomic };

// By one thread, or by several that nothing orders.
struct Touch {
  static constexpr std::uint16_t kSeveralLanes = 0x8000;  // and the number of their warp
  static constexpr std::uint16_t kSeveralWarps = 0xFFFE;
  static constexpr std::uint16_t kSeveralBlocks = 0xFFFF;

  std::uint32_t interval = 0;  // of the block; 0: by nobody
  std::uint32_t warp_sync = 0;
  std::uint16_t thread = 0;

  static Touch own() {
    const int thread = running.thread->index;
    return {running.interval, running.warp_syncs[thread / kWarpThreads], static_cast<std::uint16_t>(thread)};
  }
  bool comes_before() const {
    if (interval == 0) return true;
    if (interval < running.first_interval || thread == kSeveralBlocks) return false;
    return interval != running.interval || thread == running.thread->index || is_ordered_in_warp();
  }
  void add_own();  // a read, beside others that nothing orders with it
  std::string text() const;

 private:
  bool is_ordered_in_warp() const;
};

// Four bytes: the last write and the reads since. Bytes of a word may belong to different threads.
struct Word {
  Touch write, read;
  std::uint8_t written = 0, read_bytes = 0;  // a bit for each byte
  bool atomic = false;                       // the write was

  // Notes an access of the current thread. Fails where nothing orders it with an earlier one; `where` tells that.
  template <class Where>
  void access(std::uint8_t bytes, Access access, const Where& where) {
    const bool both_atomic = access == Access::kAtomic && atomic;
    if ((written & bytes) != 0 && !both_atomic && !write.comes_before())
      fail_at(access, write, " has written", where());
    if (access == Access::kRead) return note_read(bytes);
    if ((read_bytes & bytes) != 0 && !read.comes_before()) fail_at(access, read, " may still read", where());
    note_write(bytes, access == Access::kAtomic);
  }
  void note_write(std::uint8_t bytes, bool is_atomic) {
    write = Touch::own();
    written = bytes;
    read = {};
    atomic = is_atomic;
  }

 private:
  void note_read(std::uint8_t bytes) {
    if (read.comes_before()) {
      read = Touch::own();
      read_bytes = bytes;
    } else {
      read.add_own();
      read_bytes |= bytes;
    }
  }
  [[noreturn]] static void fail_at(Access access, const Touch& other, const char* what, const std::string& where);
};

// Calls use(index, bytes) for each word of a range, `bytes` being the bits of those that belong to it.
template <class Use>
void for_each_word(std::size_t offset, std::size_t bytes, const Use& use) {
  for (std::size_t at = offset; at < offset + bytes;) {
    const std::size_t next = at / 4 * 4 + 4 < offset + bytes ? at / 4 * 4 + 4 : offset + bytes;
    use(at / 4, static_cast<std::uint8_t>(((1u << (next - at)) - 1) << at % 4));
    at = next;
  }
}

}  // namespace fastnce::cuda::emulated
