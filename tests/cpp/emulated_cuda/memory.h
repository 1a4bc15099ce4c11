// Device memory. Work fails where it touches
//  - memory that was released;
//  - bytes that threads of one kernel touch with nothing to order them (touch.h);
//  - memory that work on another stream has written, or writes while that may still read, unless the other came before
//    (work.h);
//  - what lies outside of every allocation. Only where all memory is known: see require_known_memory().
// release() prints and throws std::logic_error while work on another stream may still use the memory: a device would
// not notice, so this is no DeviceError, which destructors may ignore.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastnce/cuda.h"
#include "touch.h"
#include "work.h"

namespace fastnce::cuda::emulated {

void* allocate(std::size_t bytes, const Stream& stream);  // filled with NaNs
void release(void* memory, const Stream& stream);

// Memory of the host's that kernels may touch, too; not observed further.
void lend(const void* memory, std::size_t bytes);
void take_back(const void* memory);

// The host has filled memory that allocate() gave.
void note_host_write(const void* memory);

// Whether kernels may touch nothing but what allocate() gave and lend() has lent, and read nothing of which neither
// work nor the host has written a byte (structs have bytes that nobody writes).
void require_known_memory(bool known);

// An access of the work that goes on, or, where there is none, of the host.
void access_global(const void* address, std::size_t bytes, Access access);
void check_access(const void* address, std::size_t bytes, Access access);  // not counted

// On global memory, whole; as in csrc/cuda/runtime/device.cuh.
unsigned long long atomic_cas(unsigned long long* word, unsigned long long expected, unsigned long long desired);
void atomic_min(unsigned long long* word, unsigned long long value);
unsigned long long atomic_add(unsigned long long* word, unsigned long long value);
void atomic_or(unsigned long long* word, unsigned long long value);
unsigned long long load_shared_word(const unsigned long long* word);

// Fails unless an address is a multiple of `bytes`, a power of two.
void require_aligned(const void* address, std::size_t bytes);

}  // namespace fastnce::cuda::emulated
