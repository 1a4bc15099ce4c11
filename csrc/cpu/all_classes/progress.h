// How far a long call is, told to the application.
#pragma once

#include <chrono>
#include <cstdint>

#include "cpu/runtime/interrupt.h"
#include "fastnce/progress.h"

namespace fastnce::cpu {

// Kept by the calling thread alone. The threads have equal shares, so its own share stands for all.
class SweepProgress {
 public:
  // `total` is what the application is told, `own_steps` what this thread will count.
  SweepProgress(const Progress& report, std::int64_t total, Interruption& interruption)
      : report_(report), total_(total), interruption_(interruption) {}

  void expect(std::int64_t own_steps) { own_steps_ = own_steps; }
  void advance(std::int64_t steps);
  // The last report, that all is done.
  void finish();

 private:
  static constexpr std::chrono::milliseconds kInterval{100};

  const Progress& report_;
  const std::int64_t total_;
  Interruption& interruption_;
  std::int64_t own_steps_ = 1, done_ = 0;
  std::chrono::steady_clock::time_point next_ = std::chrono::steady_clock::now() + kInterval;
};

// The last report of a call that has nothing to compute.
void report_all_done(const Progress& report, std::int64_t total);

}  // namespace fastnce::cpu
