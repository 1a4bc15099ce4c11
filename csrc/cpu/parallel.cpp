#include "cpu/parallel.h"

#include <atomic>

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace fastnce::cpu {

namespace {

std::atomic<int> chosen_threads{0};  // 0: OpenMP's own default

// A forked child has only the forking thread, but OpenMP's pool still believes in the others and would wait for them
// for ever. Python's multiprocessing forks, so children compute on one thread.
std::atomic<bool> forked{false};

#if defined(__unix__) || defined(__APPLE__)
[[maybe_unused]] const int fork_handler_installed = pthread_atfork(nullptr, nullptr, [] { forked = true; });
#endif

}  // namespace

int num_threads() {
  const int chosen = chosen_threads.load();
#if defined(_OPENMP)
  return chosen > 0 ? chosen : omp_get_max_threads();
#else
  return chosen > 0 ? chosen : 1;
#endif
}

void set_num_threads(int threads) { chosen_threads = threads; }

int threads_for(double work, double grain) {
  const double worthwhile = work / grain;
  const int limit = num_threads();
  return worthwhile < limit ? (worthwhile < 1.0 ? 1 : static_cast<int>(worthwhile)) : limit;
}

void Team::barrier() const {
  if (size == 1) return;
#if defined(_OPENMP)
#pragma omp barrier
#endif
}

void detail::run_team(int threads, void (*body)(const void*, const Team&), const void* context) {
#if defined(_OPENMP)
  if (threads > 1 && !forked.load()) {
#pragma omp parallel num_threads(threads)
    body(context, Team{omp_get_thread_num(), omp_get_num_threads()});
    return;
  }
#endif
  body(context, Team{0, 1});
}

}  // namespace fastnce::cpu
