#include "work.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "block.h"
#include "fastnce/error.h"

namespace fastnce::cuda::emulated {

namespace {

constexpr std::size_t kMostStreams = 64;  // and the host, which is number 0

// How far each stream had come when something happened.
using Clock = std::array<std::uint32_t, kMostStreams>;

struct Done {
  std::size_t stream;
  std::uint32_t time;
  std::uint32_t beside = 0;  // another that does not come before this one
};

struct State {
  std::recursive_mutex mutex;
  std::vector<void*> streams{nullptr};  // handles; the first stands for the host
  std::array<Clock, kMostStreams> clocks{};
  std::vector<Done> works{{0, 0}};  // all that there were; the first stands for none
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint32_t> readers;  // by a work and one beside it
  std::uint32_t work = 0;                                                    // that goes on
  Counters* counted = nullptr;
  std::map<std::string, Counters> counters;
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

}  // namespace

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

std::map<std::string, Counters> counters() {
  const std::lock_guard lock(state().mutex);
  return state().counters;
}

void reset_counters() {
  const std::lock_guard lock(state().mutex);
  state().counters.clear();
}

Work::Work(const std::string& name, const Stream& stream) : lock_(state().mutex) {
  State& s = state();
  s.work = note_work(stream);
  s.counted = &s.counters[name];
  ++s.counted->launches;
  read_before_ = s.counted->bytes_read;
  written_before_ = s.counted->bytes_written;
}

Work::~Work() {
  state().work = 0;
  state().counted = nullptr;
}

void Work::extrapolate(double factor) {
  const auto grow = [&](std::int64_t& now, std::int64_t before) {
    now = before + static_cast<std::int64_t>(factor * static_cast<double>(now - before));
  };
  grow(state().counted->bytes_read, read_before_);
  grow(state().counted->bytes_written, written_before_);
}

void Work::count_read(std::size_t bytes) {
  if (Counters* const counted = state().counted) counted->bytes_read += static_cast<std::int64_t>(bytes);
}
void Work::count_written(std::size_t bytes) {
  if (Counters* const counted = state().counted) counted->bytes_written += static_cast<std::int64_t>(bytes);
}

std::recursive_mutex& device_mutex() { return state().mutex; }
std::uint32_t current_work() { return state().work; }

std::uint32_t note_work(const Stream& stream) {
  State& s = state();
  const std::size_t number = number_of(stream);
  advance(s.clocks[number], s.clocks[0]);
  s.works.push_back({number, ++s.clocks[number][number]});
  return static_cast<std::uint32_t>(s.works.size() - 1);
}

bool is_current(std::uint32_t work) {
  const State& s = state();
  const Done &one = s.works[work], &now = s.works[s.work];
  return work == s.work || (one.stream == now.stream && one.time == now.time);
}

std::uint32_t not_waited_for(std::uint32_t work) {
  const State& s = state();
  const std::size_t stream = s.works[s.work].stream;
  for (; work != 0; work = s.works[work].beside) {
    const Done& done = s.works[work];
    if (done.stream != stream && done.time > s.clocks[stream][done.stream]) return work;
  }
  return 0;
}

std::uint32_t reader_after(std::uint32_t others) {
  State& s = state();
  if (not_waited_for(others) == 0) return s.work;
  std::uint32_t& all = s.readers[{s.work, others}];
  if (all == 0) {
    all = static_cast<std::uint32_t>(s.works.size());
    s.works.push_back({s.works[s.work].stream, s.works[s.work].time, others});
  }
  return all;
}

std::string stream_text(std::uint32_t work) {
  const std::size_t stream = state().works[work].stream;
  return stream == 0 ? "the host" : concat("stream ", state().streams[stream]);
}

}  // namespace fastnce::cuda::emulated
