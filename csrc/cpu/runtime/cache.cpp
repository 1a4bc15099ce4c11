#include "cpu/runtime/cache.h"

#include <unistd.h>

namespace fastnce::cpu {

std::int64_t l2_cache_bytes() {
  static const std::int64_t bytes = [] {
    constexpr std::int64_t kUnknown = std::int64_t{1} << 20;
#if defined(_SC_LEVEL2_CACHE_SIZE)
    const std::int64_t reported = sysconf(_SC_LEVEL2_CACHE_SIZE);
    return reported > 0 ? reported : kUnknown;
#else
    return kUnknown;
#endif
  }();
  return bytes;
}

}  // namespace fastnce::cpu
