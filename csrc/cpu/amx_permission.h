// Whether tile instructions (AMX) may be used.
#pragma once

namespace fastnce::cpu {

// True if the processor multiplies bfloat16 tiles and the operating system lets this process do so: it saves the 8 KiB
// of tile registers only for processes that asked. Asks.
bool amx_permitted();

}  // namespace fastnce::cpu
