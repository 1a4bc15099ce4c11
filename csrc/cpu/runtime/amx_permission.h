// Whether tile instructions (AMX) may be used.
#pragma once

namespace fastnce::cpu {

// True if the processor has bfloat16 tile instructions and the operating system permits them. Requests the permission:
// Linux saves the 8 KiB of tile registers only for processes that asked for them.
bool amx_permitted();

}  // namespace fastnce::cpu
