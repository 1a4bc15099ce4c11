// How an application follows a long call.
#pragma once

#include <cstdint>

namespace fastnce {

// Called by the calling thread between parts of its work, some 10 times a second, and once at the end with done ==
// total. False ends the call with Interrupted. Must not throw.
struct Progress {
  bool (*report)(void* context, std::int64_t done, std::int64_t total) = nullptr;  // null: nothing is reported
  void* context = nullptr;
};

}  // namespace fastnce
