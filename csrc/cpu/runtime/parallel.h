// Threads. Only this file and parallel.cpp use OpenMP.
#pragma once

#include <atomic>
#include <cstdint>

namespace fastnce::cpu {

int num_threads();                  // 1 where only one can be used: in a forked child, without OpenMP
void set_num_threads(int threads);  // threads >= 1

// Number of threads to use, if `grain` units of work justify starting one more.
int threads_for(double work, double grain);

struct Range {
  std::int64_t begin;
  std::int64_t end;
  std::int64_t size() const { return end - begin; }
};

// Part `index` of `parts` nearly equal, consecutive parts of [0, n).
constexpr Range part_of(std::int64_t n, std::int64_t index, std::int64_t parts) {
  return {n * index / parts, n * (index + 1) / parts};
}

// Barrier of a team. OpenMP's own barrier spins for milliseconds before it sleeps; if other programs use the same
// cores, the spinning keeps the thread that it waits for from running.
class Barrier {
 public:
  void wait(int threads);

 private:
  std::atomic<int> arrived_{0};
  std::atomic<std::uint32_t> generation_{0};
};

// The threads inside one parallel().
struct Team {
  int rank;
  int size;
  Barrier* meeting_point;

  void barrier() const {
    if (size > 1) meeting_point->wait(size);
  }
  Range share(std::int64_t n) const { return part_of(n, rank, size); }
};

namespace detail {
void run_team(int threads, void (*body)(const void*, const Team&), const void* context);
}

// Calls body(team) on up to `threads` threads at once (fewer inside another parallel region; one in a forked child,
// where OpenMP's threads do not exist any more). The body may throw after its last barrier, not before: the others
// would wait for ever. One of what was thrown is rethrown here.
template <class Body>
void parallel(int threads, const Body& body) {
  detail::run_team(
      threads, [](const void* context, const Team& team) { (*static_cast<const Body*>(context))(team); }, &body);
}

}  // namespace fastnce::cpu
