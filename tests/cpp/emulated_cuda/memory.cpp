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
constexpr std::size_t kMostStreams = 64;        // and the host, which is number 0

// How far each stream had come when something happened.
using Clock = std::array<std::uint32_t, kMostStreams>;

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
  std::uint32_t made_by = 0;  // which work cannot come before
  Clock last_use{};
  std::unique_ptr<ShadowWord[], FreeShadow> shadow;
  ShadowWord::Rest rest_of_shadow;
};

struct State {
  std::recursive_mutex mutex;
  std::map<std::uintptr_t, Allocation> allocations;  // by address
  std::deque<std::uintptr_t> released;
  std::size_t released_bytes = 0;
  bool known = false;
  std::vector<void*> streams{nullptr};  // handles; the first stands for the host
  std::array<Clock, kMostStreams> clocks{};
  struct Done {
    std::size_t stream;
    std::uint32_t time;
    std::uint32_t beside = 0;  // another that does not come before this one
  };
  std::vector<Done> works{{0, 0}};  // all that there were; the first stands for nothing
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint32_t> readers;  // by a work and one beside it
  std::size_t working = 0;                                                   // the stream whose work goes on
  std::uint32_t work = 0;                                                    // and its number
  Counters* counted = nullptr;
  std::map<std::string, Counters> counters;
  std::array<std::pair<const std::uintptr_t, Allocation>*, 8> recent{};
};

State& state() {
  static State& one = *new State;  // outlives whatever is released when the process ends
  return one;
}

std::size_t number_of(const Stream& stream) {
  State& s = state();
  const auto found = std::find(s.streams.begin() + 1, s.streams.end(), stream.handle);
  if (found != s.streams.end()) return static_cast<std::size_t>(found - s.streams.begin());
  if (s.streams.size() == kMostStreams) fail("too many streams");
  s.streams.push_back(stream.handle);
  return s.streams.size() - 1;
}

void advance(Clock& clock, const Clock& other) {
  for (std::size_t i = 0; i < kMostStreams; ++i) clock[i] = std::max(clock[i], other[i]);
}

std::string stream_text(std::size_t number) {
  return number == 0 ? "the host" : concat("stream ", state().streams[number]);
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

// Number of a piece of work, and when it happens on its stream.
std::uint32_t begin_work(std::size_t stream) {
  State& s = state();
  advance(s.clocks[stream], s.clocks[0]);
  s.works.push_back({stream, ++s.clocks[stream][stream]});
  return static_cast<std::uint32_t>(s.works.size() - 1);
}

// Of a piece of work and those beside it, one that the stream of the work that goes on has not waited for; 0: none.
std::uint32_t not_waited_for(std::uint32_t work) {
  const State& s = state();
  for (; work != 0; work = s.works[work].beside) {
    const State::Done& done = s.works[work];
    if (done.stream != s.working && done.time > s.clocks[s.working][done.stream]) return work;
  }
  return 0;
}

// The work that goes on, which has read what others had read before.
std::uint32_t reader_after(std::uint32_t others) {
  State& s = state();
  if (not_waited_for(others) == 0) return s.work;
  std::uint32_t& all = s.readers[{s.work, others}];
  if (all == 0) {
    all = static_cast<std::uint32_t>(s.works.size());
    s.works.push_back({s.working, s.works[s.work].time, others});
  }
  return all;
}

void access_shadow(Shadow& shadow, const Allocation& allocation, Access access, std::size_t offset) {
  State& s = state();
  const auto text = [&](std::uint32_t work) { return stream_text(s.works[work].stream); };
  const auto is_own = [&](std::uint32_t work) {
    return work == s.work || (s.works[work].stream == s.working && s.works[work].time == s.works[s.work].time);
  };
  if (shadow.write_work != s.work) {
    const std::uint32_t writer = not_waited_for(shadow.write_work == 0 ? allocation.made_by : shadow.write_work);
    if (writer != 0) {
      fail(concat("memory that work on ", text(writer), " has written, for which ", stream_text(s.working),
                  " does not wait"));
    }
    shadow.touches.write = {};
  }
  if (!is_own(shadow.read_work)) shadow.touches.read = {};
  if (access != Access::kRead) {
    if (const std::uint32_t reader = not_waited_for(shadow.read_work); reader != 0) {
      fail(concat("writes to memory that work on ", text(reader), " may still read, for which ", stream_text(s.working),
                  " does not wait"));
    }
    shadow.write_work = s.work;
  } else if (!is_own(shadow.read_work)) {
    shadow.read_work = reader_after(shadow.read_work);
  }
  if (running.thread != nullptr) {
    shadow.touches.access(access, [&] { return concat("byte ", offset, " of ", allocation.bytes); });
  }
}

}  // namespace

void* allocate(std::size_t bytes, const Stream& stream) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  const std::size_t whole = (bytes + 2 * kMargin + kAlignment - 1) / kAlignment * kAlignment;
  auto* const memory = static_cast<unsigned char*>(std::aligned_alloc(kAlignment, whole));
  if (memory == nullptr) throw DeviceError("emulated CUDA: no memory left");
  std::memset(memory, 0xFF, whole);
  const auto address = reinterpret_cast<std::uintptr_t>(memory) + kMargin;
  Allocation& made = s.allocations[address];
  made.bytes = bytes;
  made.shadow.reset(static_cast<ShadowWord*>(std::calloc(bytes / 4 + 1, sizeof(ShadowWord))));
  if (made.shadow == nullptr) throw DeviceError("emulated CUDA: no memory left");
  made.made_by = begin_work(number_of(stream));
  return memory + kMargin;
}

void release(void* memory, const Stream& stream) {
  if (memory == nullptr) return;
  State& s = state();
  const std::lock_guard lock(s.mutex);
  const auto address = reinterpret_cast<std::uintptr_t>(memory);
  const auto found = s.allocations.find(address);
  if (found == s.allocations.end() || !found->second.live) fail(concat("release of ", memory, ", not allocated"));
  Allocation& allocation = found->second;
  const std::size_t number = number_of(stream);
  advance(s.clocks[number], s.clocks[0]);
  for (std::size_t other = 1; other < s.streams.size(); ++other) {
    if (other != number && allocation.last_use[other] > s.clocks[number][other]) {
      const std::string what =
          concat("release on ", stream_text(number), " of memory that work on ", stream_text(other), " may still use");
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

void wait_for(const Stream& waiting, const Stream& producing) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  Clock& clock = s.clocks[number_of(waiting)];
  advance(clock, s.clocks[number_of(producing)]);
}

void synchronize(const Stream& stream) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  advance(s.clocks[0], s.clocks[number_of(stream)]);
}

void synchronize() {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  for (std::size_t number = 1; number < s.streams.size(); ++number) advance(s.clocks[0], s.clocks[number]);
}

void lend(const void* memory, std::size_t bytes) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  Allocation& lent = s.allocations[reinterpret_cast<std::uintptr_t>(memory)];
  lent.bytes = bytes;
  lent.lent = true;
}

void take_back(const void* memory) {
  const std::lock_guard lock(state().mutex);
  forget(reinterpret_cast<std::uintptr_t>(memory));
}

void note_host_write(const void* memory) {
  const std::lock_guard lock(state().mutex);
  if (auto* const found = find(reinterpret_cast<std::uintptr_t>(memory))) found->second.written_by_host = true;
}

void require_known_memory(bool known) { state().known = known; }

Work::Work(const std::string& name, const Stream& stream) : lock_(state().mutex) {
  State& s = state();
  s.working = number_of(stream);
  s.work = begin_work(s.working);
  s.counted = &s.counters[name];
  ++s.counted->launches;
  read_before_ = s.counted->bytes_read;
  written_before_ = s.counted->bytes_written;
}

void Work::extrapolate(double factor) {
  const auto grow = [&](std::int64_t& now, std::int64_t before) {
    now = before + static_cast<std::int64_t>(factor * static_cast<double>(now - before));
  };
  grow(state().counted->bytes_read, read_before_);
  grow(state().counted->bytes_written, written_before_);
}

Work::~Work() {
  state().working = 0;
  state().work = 0;
  state().counted = nullptr;
}

void access_global(const void* address, std::size_t bytes, Access access) {
  if (Counters* const counted = state().counted; counted != nullptr)
    (access == Access::kRead ? counted->bytes_read : counted->bytes_written) += static_cast<std::int64_t>(bytes);
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
  allocation.last_use[s.working] = s.clocks[s.working][s.working];
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

unsigned long long load_shared_word(const unsigned long long* word) {
  access_global(word, sizeof *word, Access::kAtomic);
  return *word;
}

void require_aligned(const void* address, std::size_t bytes) {
  if ((reinterpret_cast<std::uintptr_t>(address) & (bytes - 1)) != 0) {
    fail(concat(bytes, " bytes at ", address, ": not aligned to as many"));
  }
}

std::map<std::string, Counters> counters() {
  const std::lock_guard lock(state().mutex);
  return state().counters;
}

void reset_counters() {
  const std::lock_guard lock(state().mutex);
  state().counters.clear();
}

}  // namespace fastnce::cuda::emulated
