// The uniform distribution over the classes [0, V): p(k) = 1 / V.
#pragma once

#include <cstdint>

#include "math/distribution/uniform_integer.h"
#include "math/hd.h"

namespace fastnce::math {

struct Uniform {
  static constexpr const char* kName = "uniform";
  static constexpr int kFixedWords = 0;
  static constexpr int kRetriedWords = 2;
  static constexpr bool kOnDevice = true;

  template <class Given>
  explicit Uniform(const Given& given)
      : integer(static_cast<std::uint64_t>(given.range_max)),
        exact(1.0 / static_cast<double>(given.range_max)),
        p(static_cast<double>(static_cast<float>(exact))) {}

  // The lower half comes first.
  FASTNCE_HD static std::uint64_t joined(const std::uint32_t* words) {
    return words[0] | static_cast<std::uint64_t>(words[1]) << 32;
  }
  FASTNCE_HD bool accepts(const std::uint32_t* words) const { return integer.accepts(joined(words)); }
  FASTNCE_HD std::int64_t id(const std::uint32_t*, const std::uint32_t* words) const { return integer(joined(words)); }
  FASTNCE_HD double probability(std::int64_t) const { return p; }
  double exact_probability(std::int64_t) const { return exact; }

  UniformInteger<std::uint64_t> integer;
  double exact;
  double p;  // in float32
};

}  // namespace fastnce::math
