#include "shared_memory.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "fastnce/error.h"
#include "memory.h"
#include "mutation.h"

namespace fastnce::cuda::emulated {

namespace {

constexpr std::uint16_t kSeveralWarps = 0xFFFF;
constexpr std::uint16_t kSeveralLanes = 0x8000;  // and the number of their warp

// The last write and the reads since, of four bytes.
struct Word {
  std::uint32_t write_interval = 0, read_interval = 0;
  std::uint32_t write_sync = 0, read_sync = 0;  // of the warp
  std::uint16_t writer = 0, reader = 0;
  std::uint8_t written = 0, read = 0;  // a bit for each byte
};

struct Copy {
  std::uint32_t to;
  const void* from;
  bool landed;
};

// A thread's copies, from the first that may be in flight on.
struct Copies {
  std::vector<Copy> all;
  std::vector<std::size_t> group_ends;
};

Word words[kMostShared / 4];
std::uint16_t in_flight[kMostShared / 16];  // thread + 1 of the copy that owns them
Copies copies_of[kMostThreads];
std::size_t first_group_copies;

int own_index() { return running.thread->index; }
int own_warp() { return own_index() / kWarpThreads; }

// Whether what another thread did in an interval comes before what the current thread does now.
bool is_ordered(std::uint16_t other, std::uint32_t interval, std::uint32_t sync) {
  if (interval != running.interval || other == own_index()) return true;
  if (other == kSeveralWarps) return false;
  const int warp = (other & kSeveralLanes) != 0 ? other & ~kSeveralLanes : other / kWarpThreads;
  return warp == own_warp() && sync < running.warp_syncs[warp];
}

std::string thread_text(std::uint16_t thread) {
  if (thread == kSeveralWarps) return "several warps";
  if ((thread & kSeveralLanes) != 0) return concat("lanes of warp ", thread & ~kSeveralLanes);
  return concat("thread ", thread);
}

void note_read(Word& word, std::uint8_t bytes) {
  const std::uint32_t sync = running.warp_syncs[own_warp()];
  const auto own = static_cast<std::uint16_t>(own_index());
  const bool first = word.read_interval != running.interval;
  word.read = first ? bytes : word.read | bytes;
  if (first || is_ordered(word.reader, word.read_interval, word.read_sync)) {
    word.reader = own;
  } else if (word.reader != kSeveralWarps &&
             ((word.reader & kSeveralLanes) != 0 ? word.reader & ~kSeveralLanes : word.reader / 32) == own_warp()) {
    word.reader = static_cast<std::uint16_t>(kSeveralLanes | own_warp());
  } else {
    word.reader = kSeveralWarps;
  }
  word.read_interval = running.interval;
  word.read_sync = sync;
}

void note_write(Word& word, std::uint8_t bytes) {
  word.write_interval = running.interval;
  word.write_sync = running.warp_syncs[own_warp()];
  word.writer = static_cast<std::uint16_t>(own_index());
  word.written = bytes;
  word.read_interval = 0;
}

void access_word(std::size_t index, std::uint8_t bytes, Access access) {
  Word& word = words[index];
  if ((word.written & bytes) != 0 && !is_ordered(word.writer, word.write_interval, word.write_sync)) {
    fail(concat(access == Access::kRead ? "reads" : "writes", " byte ", 4 * index, " of shared memory, which ",
                thread_text(word.writer), " has written since the last barrier"));
  }
  if (access == Access::kRead) {
    if (word.write_interval < running.first_interval) {
      fail(concat("reads byte ", 4 * index, " of shared memory, which nobody has written"));
    }
    return note_read(word, bytes);
  }
  if ((word.read & bytes) != 0 && !is_ordered(word.reader, word.read_interval, word.read_sync)) {
    fail(concat("writes byte ", 4 * index, " of shared memory, which ", thread_text(word.reader),
                " may still read: there was no barrier since"));
  }
  note_write(word, bytes);
}

void land(Copy& copy) {
  std::memcpy(running.shared + copy.to, copy.from, 16);
  copy.landed = true;
}

void release_copy(Copy& copy) {
  if (!copy.landed) land(copy);
  in_flight[copy.to / 16] = 0;
  for (std::size_t word = copy.to / 4; word < copy.to / 4 + 4; ++word) note_write(words[word], 0xF);
}

}  // namespace

void begin_shared_memory() {
  std::memset(running.shared, 0xFF, running.shared_bytes);  // NaNs
  std::fill_n(in_flight, running.shared_bytes / 16 + 1, std::uint16_t{0});
  for (Copies& copies : copies_of) {
    copies.all.clear();
    copies.group_ends.clear();
  }
  first_group_copies = 0;
}

void access_shared(std::size_t offset, std::size_t bytes, Access access) {
  if (offset + bytes > running.shared_bytes) {
    fail(concat("byte ", offset + bytes - 1, " of shared memory, of which the block has ", running.shared_bytes));
  }
  for (std::size_t chunk = offset / 16; chunk <= (offset + bytes - 1) / 16; ++chunk) {
    if (in_flight[chunk] != 0) {
      fail(concat(access == Access::kRead ? "reads" : "writes", " byte ", offset,
                  " of shared memory, where an asynchronous copy of thread ", in_flight[chunk] - 1,
                  " may still arrive"));
    }
  }
  for (std::size_t at = offset; at < offset + bytes;) {
    const std::size_t end = std::min(offset + bytes, at / 4 * 4 + 4);
    const auto mask = static_cast<std::uint8_t>(((1u << (end - at)) - 1) << at % 4);
    access_word(at / 4, mask, access);
    at = end;
  }
}

unsigned char peek(std::size_t offset) { return running.shared[offset]; }

std::uint32_t stage_bytes() {
  return static_cast<std::uint32_t>(first_group_copies * 16 * static_cast<std::size_t>(running.thread->block_threads));
}

void copy_async(std::uint32_t to, const void* from, const Site& site) {
  if (is_mutated(Mutation::kNextStage, site) && stage_bytes() > 0) {
    to = static_cast<std::uint32_t>((to + stage_bytes()) % running.shared_bytes);
  }
  require_aligned(from, 16);
  require_aligned(running.shared + to, 16);
  access_global(from, 16, Access::kRead);
  access_shared(to, 16, Access::kWrite);
  in_flight[to / 16] = static_cast<std::uint16_t>(own_index() + 1);
  Copy copy{to, from, false};
  if (random_number() % 2 == 0) land(copy);
  copies_of[own_index()].all.push_back(copy);
}

void commit_copies(const Site& site) {
  Copies& copies = copies_of[own_index()];
  copies.group_ends.push_back(copies.all.size());
  if (first_group_copies == 0) first_group_copies = copies.all.size();
  if (running.thread->owes_barrier) {
    running.thread->owes_barrier = false;
    sync_block(site);
  }
}

void wait_for_copies(int pending, const Site& site) {
  if (is_mutated(Mutation::kShortWait, site)) ++pending;
  Copies& copies = copies_of[own_index()];
  const std::size_t groups = copies.group_ends.size();
  if (groups <= static_cast<std::size_t>(pending)) return;
  const std::size_t arrived = groups - static_cast<std::size_t>(pending);
  const std::size_t end = copies.group_ends[arrived - 1];
  for (std::size_t i = 0; i < end; ++i) release_copy(copies.all[i]);
  copies.all.erase(copies.all.begin(), copies.all.begin() + static_cast<std::ptrdiff_t>(end));
  copies.group_ends.erase(copies.group_ends.begin(), copies.group_ends.begin() + static_cast<std::ptrdiff_t>(arrived));
  for (std::size_t& later : copies.group_ends) later -= end;
}

}  // namespace fastnce::cuda::emulated
