// No sampling: draw i of every call is class i, and each class counts once.
#pragma once

#include <cstdint>

namespace fastnce::math {

struct All {
  static constexpr const char* kName = "all";
  static constexpr int kFixedWords = 0;
  static constexpr int kRetriedWords = 0;
  static constexpr bool kOnDevice = false;

  template <class Given>
  explicit All(const Given&) {}

  double exact_probability(std::int64_t) const { return 1.0; }
};

}  // namespace fastnce::math
