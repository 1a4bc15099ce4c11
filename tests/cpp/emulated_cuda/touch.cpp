#include "touch.h"

#include "fastnce/error.h"

namespace fastnce::cuda::emulated {

namespace {

int own_index() { return running.thread->index; }
int own_warp() { return own_index() / kWarpThreads; }

}  // namespace

bool Touch::is_ordered_in_warp() const {
  if (thread == kSeveralWarps) return false;
  const int warp = (thread & kSeveralLanes) != 0 ? thread & ~kSeveralLanes : thread / kWarpThreads;
  return warp == own_warp() && warp_sync < running.warp_syncs[warp];
}

void Touch::add_own() {
  const bool same_block = interval >= running.first_interval && thread != kSeveralBlocks;
  const int warp = (thread & kSeveralLanes) != 0 ? thread & ~kSeveralLanes : thread / kWarpThreads;
  const bool same_warp = same_block && thread != kSeveralWarps && warp == own_warp();
  *this = own();
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

void Touches::fail_at(Access access, const Touch& other, const char* what, const std::string& where) {
  fail(concat(access == Access::kRead ? "reads " : "writes ", where, ", which ", other.text(), what,
              ": no barrier lies between"));
}

}  // namespace fastnce::cuda::emulated
