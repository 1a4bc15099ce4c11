#include "cpu/all_classes/progress.h"

namespace fastnce::cpu {

void SweepProgress::advance(std::int64_t steps) {
  done_ += steps;
  if (report_.report == nullptr) return;
  const auto now = std::chrono::steady_clock::now();
  if (now < next_) return;
  next_ = now + kInterval;
  const double share = static_cast<double>(done_) / static_cast<double>(own_steps_);
  const auto done = static_cast<std::int64_t>(share * static_cast<double>(total_));
  if (done < total_ && !report_.report(report_.context, done, total_)) interruption_.request();
}

void SweepProgress::finish() {
  if (report_.report == nullptr || interruption_.requested()) return;
  if (!report_.report(report_.context, total_, total_)) interruption_.request();
}

void report_all_done(const Progress& report, std::int64_t total) {
  Interruption interruption;
  SweepProgress(report, total, interruption).finish();
  interruption.check();
}

}  // namespace fastnce::cpu
