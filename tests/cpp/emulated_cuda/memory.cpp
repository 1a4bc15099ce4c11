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

// Four bytes: what touched them last, and on which stream that was.
struct Shadow {
  Word word;
  std::uint32_t write_work = 0, read_work = 0;
};

// Pages of it that nobody touches take no memory.
struct FreeShadow {
  void operator()(Shadow* shadow) const { std::free(shadow); }
};

struct Allocation {
  std::size_t bytes = 0;
  bool live = true;
  bool lent = false;
  std::uint32_t made_by = 0;  // which work cannot come before
  Clock last_use{};
  std::unique_ptr<Shadow[], FreeShadow> shadow;
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
  };
  std::vector<Done> works{{0, 0}};  // all that there were; the first stands for nothing
  std::size_t working = 0;          // the stream whose work goes on
  std::uint32_t work = 0;           // and its number
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

// Whether the stream of the work that goes on has waited for another piece of work.
bool has_waited_for(std::uint32_t work) {
  const auto [stream, time] = state().works[work];
  return stream == state().working || time <= state().clocks[state().working][stream];
}

void access_shadow(Shadow& shadow, const Allocation& allocation, std::uint8_t bytes, Access access,
                   std::size_t offset) {
  State& s = state();
  const auto text = [&](std::uint32_t work) { return stream_text(s.works[work].stream); };
  if (shadow.write_work != s.work) {
    const std::uint32_t writer = shadow.write_work == 0 ? allocation.made_by : shadow.write_work;
    if (!has_waited_for(writer)) {
      fail(concat("memory that work on ", text(writer), " has written, for which ", stream_text(s.working),
                  " does not wait"));
    }
    shadow.word.write = {};
  }
  if (shadow.read_work != s.work) {
    if (access != Access::kRead && !has_waited_for(shadow.read_work)) {
      fail(concat("writes to memory that work on ", text(shadow.read_work), " may still read, for which ",
                  stream_text(s.working), " does not wait"));
    }
    shadow.word.read = {};
  }
  if (running.thread != nullptr) {
    shadow.word.access(bytes, access, [&] { return concat("byte ", offset, " of ", allocation.bytes); });
  }
  (access == Access::kRead ? shadow.read_work : shadow.write_work) = s.work;
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
  made.shadow.reset(static_cast<Shadow*>(std::calloc(bytes / 4 + 1, sizeof(Shadow))));
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
  State& s = state();
  if (s.counted != nullptr)
    (access == Access::kRead ? s.counted->bytes_read : s.counted->bytes_written) += static_cast<std::int64_t>(bytes);
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
  for_each_word(offset, bytes, [&](std::size_t index, std::uint8_t touched) {
    access_shadow(allocation.shadow[index], allocation, touched, access, 4 * index);
  });
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
