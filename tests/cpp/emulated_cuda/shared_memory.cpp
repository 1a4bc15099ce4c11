#include "shared_memory.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "fastnce/error.h"
#include "memory.h"
#include "mutation.h"

namespace fastnce::cuda::emulated {

namespace {

struct Copy {
  std::uint32_t to;
  const void* from;
  unsigned char expected[16];  // what was there when the copy began
  bool landed;
};

// A thread's copies, from the first that may be in flight on.
struct Copies {
  std::vector<Copy> all;
  std::vector<std::size_t> group_ends;
};

// What earlier blocks have left there is nothing to this one.
struct BlockWord {
  Word<Touches> word;
  std::uint32_t first_interval = 0;  // of the block that it speaks of
};

BlockWord words[kMostShared / 4];
Word<Touches>::Rest rest_of_words;
std::uint16_t in_flight[kMostShared / 16];  // thread + 1 of the copy that owns them
Copies copies_of[kMostThreads];
std::size_t first_group_copies;

int own_index() { return running.thread->index; }
Word<Touches>& word_of_block(std::size_t index) {
  BlockWord& own = words[index];
  if (own.first_interval != running.first_interval) own = {{}, running.first_interval};
  return own.word;
}

void land(Copy& copy) {
  std::memcpy(running.shared + copy.to, copy.from, 16);
  copy.landed = true;
}

void release_copy(Copy& copy) {
  if (std::memcmp(copy.from, copy.expected, sizeof copy.expected) != 0) {
    fail(concat("16 bytes at ", copy.from, " have changed while an asynchronous copy might still read them"));
  }
  if (!copy.landed) land(copy);
  in_flight[copy.to / 16] = 0;
  for_each_word(copy.to, 16, [](std::size_t index, std::uint8_t bytes) {
    word_of_block(index).access(bytes, true, rest_of_words, [](Touches& touches) { touches.note_write(false); });
  });
}

}  // namespace

void begin_shared_memory() {
  std::memset(running.shared, 0xFF, running.shared_bytes);  // NaNs
  std::fill_n(in_flight, (running.shared_bytes + 15) / 16, std::uint16_t{0});
  rest_of_words.clear();
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
  for_each_word(offset, bytes, [&](std::size_t index, std::uint8_t touched) {
    const auto where = [&] { return concat("byte ", 4 * index, " of shared memory"); };
    bool written = access != Access::kRead;
    word_of_block(index).access(touched, access == Access::kWrite, rest_of_words, [&](Touches& touches) {
      written |= touches.write.interval != 0;
      touches.access(access, where);
    });
    if (!written) fail(concat("reads ", where(), ", which no thread has written"));
  });
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
  Copy copy{to, from, {}, false};
  std::memcpy(copy.expected, from, sizeof copy.expected);
  if (random_number() % 2 == 0) land(copy);
  copies_of[own_index()].all.push_back(copy);
}

void commit_copies(const Site& site) {
  if (running.thread->last_barrier.line() > 0) note(Mutation::kLateBarrier, running.thread->last_barrier);
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
