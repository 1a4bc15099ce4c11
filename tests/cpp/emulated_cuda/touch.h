// Who has touched a byte of memory within one kernel, and whether that comes before what the current thread does. Two
// threads of a block are ordered by a barrier between them, two lanes of a warp also by sync_warp(), two blocks by
// nothing. Shuffles order nothing, nor does the order in which threads happen to run.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "block.h"

namespace fastnce::cuda::emulated {

enum class Access { kRead, kWrite, kAtomic };

// By one thread, or by several that nothing orders. All zero: by nobody.
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
  void add_own();  // beside others that nothing orders with it
  std::string text() const;

 private:
  bool is_ordered_in_warp() const;
};

// The last write of a byte, and the reads since.
struct Touches {
  Touch write, read;
  bool atomic = false;  // the write was

  // Notes an access of the current thread. Fails where nothing orders it with an earlier one; `where` tells that.
  template <class Where>
  void access(Access access, const Where& where) {
    const bool ordered = write.comes_before();
    const bool both_atomic = access == Access::kAtomic && atomic;
    if (!ordered && !both_atomic) fail_at(access, write, " has written", where());
    if (access == Access::kRead) return note(read);
    if (!read.comes_before()) fail_at(access, read, " may still read", where());
    if (!ordered) return write.add_own();
    note_write(access == Access::kAtomic);
  }
  void note_write(bool is_atomic) {
    write = Touch::own();
    read = {};
    atomic = is_atomic;
  }

 private:
  static void note(Touch& touch) {
    if (touch.comes_before()) {
      touch = Touch::own();
    } else {
      touch.add_own();
    }
  }
  [[noreturn]] static void fail_at(Access access, const Touch& other, const char* what, const std::string& where);
};

// Four bytes. They share what is known of them, a Part, until one is touched without the others.
template <class Part>
class Word {
 public:
  using Rest = std::vector<std::array<Part, 3>>;  // of all words of an array that were ever split

  // Calls use(part) for what is known of `bytes`, a bit each. `unites`: afterwards the same is known of them all.
  template <class Use>
  void access(std::uint8_t bytes, bool unites, Rest& rest, const Use& use) {
    if (bytes == kAll && !split_) return use(first_);
    if (!split_) split(rest);
    auto& others = rest[others_ - 1];
    if ((bytes & 1) != 0) use(first_);
    for (std::size_t i = 0; i < others.size(); ++i) {
      if ((bytes >> (i + 1) & 1) != 0) use(others[i]);
    }
    if (bytes == kAll && unites) split_ = false;
  }

 private:
  static constexpr std::uint8_t kAll = 0xF;

  void split(Rest& rest) {
    if (others_ == 0) {
      rest.emplace_back();
      others_ = static_cast<std::uint32_t>(rest.size());
    }
    rest[others_ - 1].fill(first_);
    split_ = true;
  }

  Part first_;
  std::uint32_t others_ = 0;  // one more than the index in Rest; 0: none yet
  bool split_ = false;
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
