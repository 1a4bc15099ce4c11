#include "cpu/runtime/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace fastnce::cpu {

namespace {

std::atomic<int> chosen_threads{0};  // 0: OpenMP's own default

// A forked child has only the forking thread, but OpenMP's pool still counts the others and would wait for them
// forever. Python's multiprocessing forks, so children compute on one thread.
std::atomic<bool> forked{false};

#if defined(__unix__) || defined(__APPLE__)
[[maybe_unused]] const int fork_handler_installed = pthread_atfork(nullptr, nullptr, [] { forked = true; });
#endif

// Leaves the core's resources to its sibling thread for a moment.
void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

int num_threads() {
#if defined(_OPENMP)
  if (forked.load()) return 1;
  const int chosen = chosen_threads.load();
  return std::min(chosen > 0 ? chosen : omp_get_max_threads(), omp_get_thread_limit());
#else
  return 1;
#endif
}

void set_num_threads(int threads) { chosen_threads = threads; }

int threads_for(double work, double grain) {
  const double worthwhile = work / grain;
  const int limit = num_threads();
  return worthwhile < limit ? (worthwhile < 1.0 ? 1 : static_cast<int>(worthwhile)) : limit;
}

void Barrier::wait(int threads) {
  constexpr int kSpins = 2000;  // some tens of microseconds: more than threads of equal work are apart
  const std::uint32_t generation = generation_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
    arrived_.store(0, std::memory_order_relaxed);
    generation_.store(generation + 1, std::memory_order_release);
    generation_.notify_all();
    return;
  }
  for (int spin = 0; spin < kSpins; ++spin) {
    if (generation_.load(std::memory_order_acquire) != generation) return;
    pause_briefly();
  }
  generation_.wait(generation, std::memory_order_acquire);
}

void detail::run_team([[maybe_unused]] int threads, void (*body)(const void*, const Team&), const void* context) {
  Barrier barrier;
#if defined(_OPENMP)
  std::atomic_flag failed;
  std::exception_ptr failure;
  if (threads > 1 && !forked.load()) {
#pragma omp parallel num_threads(threads)
    {
      const Team team{omp_get_thread_num(), omp_get_num_threads(), &barrier};
      try {
        body(context, team);
      } catch (...) {  // must not leave the region
        if (!failed.test_and_set()) failure = std::current_exception();
      }
      team.barrier();  // sync here so that OpenMP's closing barrier never spins
    }
    if (failure) std::rethrow_exception(failure);
    return;
  }
#endif
  body(context, Team{0, 1, &barrier});
}

}  // namespace fastnce::cpu
