#include "memory.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "fastnce/error.h"

namespace fastnce::cuda::emulated {

namespace {

constexpr std::size_t kAlignment = 256;
constexpr std::size_t kMargin = 256;            // before and behind each allocation, not to be touched
constexpr std::size_t kKeptBytes = 256u << 20;  // of released memory

// What touched a byte last, and which work that was.
struct Shadow {
  Touches touches;
  std::uint32_t write_work = 0, read_work = 0;
};
using ShadowWord = Word<Shadow>;

// Pages of it that nobody touches take no memory.
struct FreeShadow {
  void operator()(ShadowWord* shadow) const { std::free(shadow); }
};

struct Allocation {
  std::size_t bytes = 0;
  bool live = true;
  bool lent = false;
  bool written_by_host = false;
  std::uint32_t made_by = 0;             // which work cannot come before
  std::vector<std::uint32_t> last_uses;  // works, one for each stream that has used it
  std::unique_ptr<ShadowWord[], FreeShadow> shadow;
  ShadowWord::Rest rest_of_shadow;
};

struct State {
  std::map<std::uintptr_t, Allocation> allocations;  // by address
  std::deque<std::uintptr_t> released;
  std::size_t released_bytes = 0;
  bool known = false;
  std::array<std::pair<const std::uintptr_t, Allocation>*, 8> recent{};
};

State& state() {
  static State& one = *new State;  // outlives whatever is released when the process ends
  return one;
}

// The allocation that an address lies in, or whose margin it lies in.
std::pair<const std::uintptr_t, Allocation>* find(std::uintptr_t address) {
  State& s = state();
  const auto holds = [&](const std::pair<const std::uintptr_t, Allocation>* one) {
    const std::size_t margin = one->second.lent ? 0 : kMargin;
    return address + margin >= one->first && address < one->first + one->second.bytes + margin;
  };
  for (auto* const one : s.recent) {
    if (one != nullptr && holds(one)) return one;
  }
  for (auto next = s.allocations.upper_bound(address + kMargin); next != s.allocations.begin();) {
    auto& candidate = *--next;
    if (holds(&candidate)) {
      std::rotate(s.recent.begin(), s.recent.end() - 1, s.recent.end());
      return s.recent[0] = &candidate;
    }
    if (candidate.first <= address) break;
  }
  return nullptr;
}

void forget(std::uintptr_t address) {
  State& s = state();
  for (auto*& one : s.recent) {
    if (one != nullptr && one->first == address) one = nullptr;
  }
  s.allocations.erase(address);
}

void access_shadow(Shadow& shadow, const Allocation& allocation, Access access, std::size_t offset) {
  const std::uint32_t work = current_work();
  if (shadow.write_work != work) {
    const std::uint32_t writer = not_waited_for(shadow.write_work == 0 ? allocation.made_by : shadow.write_work);
    if (writer != 0) {
      fail(concat("memory that work on ", stream_text(writer), " has written, for which ", stream_text(work),
                  " does not wait"));
    }
    shadow.touches.write = {};
  }
  if (!is_current(shadow.read_work)) shadow.touches.read = {};
  if (access != Access::kRead) {
    if (const std::uint32_t reader = not_waited_for(shadow.read_work); reader != 0) {
      fail(concat("writes to memory that work on ", stream_text(reader), " may still read, for which ",
                  stream_text(work), " does not wait"));
    }
    shadow.write_work = work;
  } else if (!is_current(shadow.read_work)) {
    shadow.read_work = reader_after(shadow.read_work);
  }
  if (running.thread != nullptr) {
    shadow.touches.access(access, [&] { return concat("byte ", offset, " of ", allocation.bytes); });
  }
}

// The last use by each stream is enough: the earlier ones came before it.
void note_use(Allocation& allocation) {
  const std::uint32_t work = current_work();
  auto& uses = allocation.last_uses;
  if (!uses.empty() && uses.back() == work) return;
  std::erase_if(uses, [](std::uint32_t use) { return not_waited_for(use) == 0; });
  uses.push_back(work);
}

}  // namespace

void* allocate(std::size_t bytes, const Stream& stream) {
  State& s = state();
  const std::lock_guard lock(device_mutex());
  const std::size_t whole = (bytes + 2 * kMargin + kAlignment - 1) / kAlignment * kAlignment;
  auto* const memory = static_cast<unsigned char*>(std::aligned_alloc(kAlignment, whole));
  if (memory == nullptr) throw DeviceError("emulated CUDA: no memory left");
  std::memset(memory, 0xFF, whole);
  const auto address = reinterpret_cast<std::uintptr_t>(memory) + kMargin;
  Allocation& made = s.allocations[address];
  made.bytes = bytes;
  made.shadow.reset(static_cast<ShadowWord*>(std::calloc(bytes / 4 + 1, sizeof(ShadowWord))));
  if (made.shadow == nullptr) throw DeviceError("emulated CUDA: no memory left");
  made.made_by = note_work(stream);
  return memory + kMargin;
}

void release(void* memory, const Stream& stream) {
  if (memory == nullptr) return;
  State& s = state();
  const std::lock_guard lock(device_mutex());
  const auto address = reinterpret_cast<std::uintptr_t>(memory);
  const auto found = s.allocations.find(address);
  if (found == s.allocations.end() || !found->second.live) fail(concat("release of ", memory, ", not allocated"));
  Allocation& allocation = found->second;
  {
    const Work releasing("release", stream);
    for (const std::uint32_t use : allocation.last_uses) {
      if (not_waited_for(use) == 0) continue;
      const std::string what = concat("release on ", stream_text(current_work()), " of memory that work on ",
                                      stream_text(use), " may still use");
      std::fprintf(stderr, "emulated CUDA: %s\n", what.c_str());
      throw std::logic_error(what);
    }
  }
  allocation.live = false;
  allocation.shadow = {};
  allocation.rest_of_shadow = {};
  std::memset(memory, 0xFF, allocation.bytes);
  s.released.push_back(address);
  s.released_bytes += allocation.bytes;
  while (s.released_bytes > kKeptBytes) {
    const std::uintptr_t oldest = s.released.front();
    s.released.pop_front();
    s.released_bytes -= s.allocations[oldest].bytes;
    forget(oldest);
    std::free(reinterpret_cast<void*>(oldest - kMargin));
  }
}

void lend(const void* memory, std::size_t bytes) {
  State& s = state();
  const std::lock_guard lock(device_mutex());
  Allocation& lent = s.allocations[reinterpret_cast<std::uintptr_t>(memory)];
  lent.bytes = bytes;
  lent.lent = true;
}

void take_back(const void* memory) {
  const std::lock_guard lock(device_mutex());
  forget(reinterpret_cast<std::uintptr_t>(memory));
}

void note_host_write(const void* memory) {
  const std::lock_guard lock(device_mutex());
  if (auto* const found = find(reinterpret_cast<std::uintptr_t>(memory))) found->second.written_by_host = true;
}

void require_known_memory(bool known) { state().known = known; }

void access_global(const void* address, std::size_t bytes, Access access) {
  access == Access::kRead ? Work::count_read(bytes) : Work::count_written(bytes);
  check_access(address, bytes, access);
}

void check_access(const void* address, std::size_t bytes, Access access) {
  State& s = state();
  const auto first = reinterpret_cast<std::uintptr_t>(address);
  auto* const found = find(first);
  if (found == nullptr) {
    if (s.known) fail(concat(bytes, " bytes at ", address, ", outside of every allocation"));
    return;
  }
  Allocation& allocation = found->second;
  const std::size_t offset = first - found->first;
  if (first < found->first || offset + bytes > allocation.bytes) {
    fail(
        concat(bytes, " bytes at byte ", static_cast<std::int64_t>(offset), " of an allocation of ", allocation.bytes));
  }
  if (allocation.lent) return;
  if (!allocation.live) fail(concat("memory that was released: byte ", offset, " of ", allocation.bytes));
  note_use(allocation);
  bool written = allocation.written_by_host || !s.known || access == Access::kWrite;
  for_each_word(offset, bytes, [&](std::size_t index, std::uint8_t touched) {
    allocation.shadow[index].access(touched, access == Access::kWrite, allocation.rest_of_shadow, [&](Shadow& shadow) {
      written |= shadow.write_work != 0;
      access_shadow(shadow, allocation, access, 4 * index);
    });
  });
  if (!written) fail(concat("reads byte ", offset, " of ", allocation.bytes, ", which nothing has written"));
}

unsigned long long atomic_cas(unsigned long long* word, unsigned long long expected, unsigned long long desired) {
  access_global(word, sizeof *word, Access::kAtomic);
  return *word == expected ? std::exchange(*word, desired) : *word;
}

void atomic_min(unsigned long long* word, unsigned long long value) {
  access_global(word, sizeof *word, Access::kAtomic);
  *word = std::min(*word, value);
}

unsigned long long atomic_add(unsigned long long* word, unsigned long long value) {
  access_global(word, sizeof *word, Access::kAtomic);
  return std::exchange(*word, *word + value);
}

void atomic_or(unsigned long long* word, unsigned long long value) {
  access_global(word, sizeof *word, Access::kAtomic);
  *word |= value;
}

unsigned long long load_shared_word(const unsigned long long* word) {
  access_global(word, sizeof *word, Access::kAtomic);
  return *word;
}

void require_aligned(const void* address, std::size_t bytes) {
  if ((reinterpret_cast<std::uintptr_t>(address) & (bytes - 1)) != 0) {
    fail(concat(bytes, " bytes at ", address, ": not aligned to as many"));
  }
}

}  // namespace fastnce::cuda::emulated
