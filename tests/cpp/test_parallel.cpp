#include "cpu/runtime/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

namespace fastnce::cpu {
namespace {

TEST(Parallel, SharesCoverEverythingOnce) {
  for (const std::int64_t n : {0, 1, 5, 100}) {
    std::vector<std::atomic<int>> visits(static_cast<std::size_t>(n));
    parallel(7, [&](const Team& team) {
      const Range part = team.share(n);
      for (std::int64_t i = part.begin; i < part.end; ++i) ++visits[static_cast<std::size_t>(i)];
    });
    for (const auto& count : visits) EXPECT_EQ(count, 1);
  }
}

TEST(Parallel, NobodyPassesABarrierBeforeAllHaveCome) {
  std::atomic<int> arrived{0};
  std::atomic<int> early{0};
  parallel(5, [&](const Team& team) {
    for (int round = 1; round <= 200; ++round) {
      ++arrived;
      team.barrier();
      early += arrived < round * team.size;
      team.barrier();
    }
  });
  EXPECT_EQ(early, 0);
}

TEST(Parallel, PassesOnWhatAThreadThrows) {
  for (const int threads : {1, 4}) {
    EXPECT_THROW(parallel(threads,
                          [&](const Team& team) {
                            team.barrier();
                            if (team.rank + 1 == team.size) throw std::runtime_error("from a thread");
                          }),
                 std::runtime_error);
  }
}

}  // namespace
}  // namespace fastnce::cpu
