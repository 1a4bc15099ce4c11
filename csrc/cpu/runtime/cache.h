// The cache size that determines the tile sizes.
#pragma once

#include <cstdint>

namespace fastnce::cpu {

// Bytes of the L2 cache of one core as the operating system reports them; 1 MiB where it does not.
std::int64_t l2_cache_bytes();

}  // namespace fastnce::cpu
