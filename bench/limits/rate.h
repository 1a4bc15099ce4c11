// How fast something goes on several threads at once: what both kinds of limit are measured with.
#pragma once

#include <algorithm>
#include <barrier>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

namespace fastnce::bench {

struct Limit {
  std::string name;
  double value;
};

std::vector<Limit> arithmetic_limits(int threads);
std::vector<Limit> memory_limits(int threads);

// Units per second, all threads together. `work(thread)` does `units` of them, on every thread at the same time. Of
// several repeats the fastest counts: whatever disturbs one makes it slower, never faster.
template <class Work>
double best_rate(int threads, double units, Work work) {
  using Clock = std::chrono::steady_clock;
  constexpr int kRepeats = 5;
  double seconds = 1e300;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    Clock::time_point start;
    std::barrier begin(threads, [&]() noexcept { start = Clock::now(); });
    std::vector<std::thread> team;
    for (int thread = 0; thread < threads; ++thread) {
      team.emplace_back([&, thread] {
        begin.arrive_and_wait();
        work(thread);
      });
    }
    for (std::thread& member : team) member.join();
    seconds = std::min(seconds, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return threads * units / seconds;
}

// Uses `value` as far as the compiler can tell, so that it has to be computed.
template <class T>
void keep(const T& value) {
  asm volatile("" ::"r"(&value) : "memory");
}

}  // namespace fastnce::bench
