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
// What earlier blocks have left there is nothing to this one.
Word& word_of_block(std::size_t index) {
  Word& word = words[index];
  if (word.write.interval < running.first_interval && word.read.interval < running.first_interval) word = {};
  return word;
}

void land(Copy& copy) {
  std::memcpy(running.shared + copy.to, copy.from, 16);
  copy.landed = true;
}

void release_copy(Copy& copy) {
  if (!copy.landed) land(copy);
  in_flight[copy.to / 16] = 0;
  for (std::size_t word = copy.to / 4; word < copy.to / 4 + 4; ++word) words[word].note_write(0xF, false);
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
  for_each_word(offset, bytes, [&](std::size_t index, std::uint8_t touched) {
    Word& word = word_of_block(index);
    const auto where = [&] { return concat("byte ", 4 * index, " of shared memory"); };
    if (access == Access::kRead && word.write.interval == 0)
      fail(concat("reads ", where(), ", which no thread has written"));
    word.access(touched, access, where);
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
  Copy copy{to, from, false};
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
