#include "cpu/runtime/amx_permission.h"

#if defined(FASTNCE_X86) && defined(__linux__)

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace fastnce::cpu {

bool amx_permitted() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  constexpr unsigned kTile = 1u << 24;
  constexpr unsigned kBf16 = 1u << 22;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0 || (edx & kTile) == 0 || (edx & kBf16) == 0) return false;
  // From linux/arch/x86/include/uapi/asm/prctl.h; older C libraries do not name it.
  constexpr long kArchReqXcompPerm = 0x1023;
  constexpr long kXfeatureXtiledata = 18;
  // Fails where the kernel or the hypervisor does not enable the state. Holds for all threads, started or not.
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureXtiledata) == 0;
}

}  // namespace fastnce::cpu

#else

namespace fastnce::cpu {

bool amx_permitted() { return false; }

}  // namespace fastnce::cpu

#endif
