#include "touch.h"

#include "fastnce/error.h"

namespace fastnce::cuda::emulated {

namespace {

int own_index() { return running.thread->index; }
int own_warp() { return own_index() / kWarpThreads; }

}  // namespace

Touch Touch::own() {
  return {running.interval, running.warp_syncs[own_warp()], static_cast<std::uint16_t>(own_index())};
}

bool Touch::comes_before() const {
  if (interval == 0) return true;
  if (interval < running.first_interval || thread == kSeveralBlocks) return false;
  if (interval != running.interval || thread == own_index()) return true;
  if (thread == kSeveralWarps) return false;
  const int warp = (thread & kSeveralLanes) != 0 ? thread & ~kSeveralLanes : thread / kWarpThreads;
  return warp == own_warp() && warp_sync < running.warp_syncs[warp];
}

void Touch::add_own() {
  const Touch now = own();
  if (comes_before()) {
    *this = now;
    return;
  }
  const bool same_block = interval >= running.first_interval && thread != kSeveralBlocks;
  const int warp = (thread & kSeveralLanes) != 0 ? thread & ~kSeveralLanes : thread / kWarpThreads;
  const bool same_warp = same_block && thread != kSeveralWarps && warp == own_warp();
  *this = now;
  thread = same_warp    ? static_cast<std::uint16_t>(kSeveralLanes | own_warp())
           : same_block ? kSeveralWarps
                        : kSeveralBlocks;
}

std::string Touch::text() const {
  if (thread == kSeveralBlocks || interval < running.first_interval) return "another block";
  if (thread == kSeveralWarps) return "several warps";
  if ((thread & kSeveralLanes) != 0) return concat("lanes of warp ", thread & ~kSeveralLanes);
  return concat("thread ", thread);
}

void Word::note_read(std::uint8_t bytes) {
  const bool fresh = read.interval == 0 || read.comes_before();
  read_bytes = fresh ? bytes : read_bytes | bytes;
  read.add_own();
}

void Word::note_write(std::uint8_t bytes, bool is_atomic) {
  write = Touch::own();
  written = bytes;
  read = {};
  atomic = is_atomic;
}

void Word::fail_at(Access access, const Touch& other, const char* what, const std::string& where) {
  fail(concat(access == Access::kRead ? "reads " : "writes ", where, ", which ", other.text(), what,
              ": no barrier lies between"));
}

}  // namespace fastnce::cuda::emulated
