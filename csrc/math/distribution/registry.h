// The list of distributions: a new one is a header and an entry of the list. A distribution is a struct that both
// backends copy into their loops. It has
//   kName                         its name for distribution_named(), or null if it needs a table
//   kParameters                   an array of Parameter (parameter.h), if distribution_named() takes and checks numbers
//                                 for it
//   kFixedWords, kRetriedWords    the random words that it takes (math/candidate_stream.h)
//   kOnDevice                     whether the CUDA backend draws from it
//   a constructor                 from a valid fastnce::Distribution: a template, since math/ does not include that
//   accepts(integer)              whether the integer at these words counts, or the next one is drawn. Only if
//                                 kRetriedWords > 0
//   id(fixed, integer)            the class that these words draw: the same on every machine, so that no product may be
//                                 an operand of a sum, which some compilers contract; an explicit std::fma may
//   probability(k)                of class k in one draw, rounded to float32: expected counts start from that
//   exact_probability(k)          the same in float64, on the host: what excluded classes leave is 1 minus their sum
#pragma once

#include <cstddef>
#include <tuple>
#include <type_traits>

#include "math/distribution/all.h"
#include "math/distribution/learned_unigram.h"
#include "math/distribution/log_uniform.h"
#include "math/distribution/uniform.h"
#include "math/distribution/unigram.h"

namespace fastnce {

enum class DistributionKind : int;  // as in the public header, which math/ does not include

namespace math {

// A kind is an index into this list. The first is the default.
using Distributions = std::tuple<LogUniform, Uniform, Unigram, LearnedUnigram, All>;

// The kind of distribution D.
template <class D, std::size_t kIndex = 0>
constexpr DistributionKind kind_of() {
  if constexpr (std::is_same_v<D, std::tuple_element_t<kIndex, Distributions>>) {
    return static_cast<DistributionKind>(kIndex);
  } else {
    return kind_of<D, kIndex + 1>();
  }
}

// Calls function(distribution) for the kind of `given`, a fastnce::Distribution.
template <std::size_t kIndex = 0, class Given, class Function>
decltype(auto) with_distribution(const Given& given, const Function& function) {
  using D = std::tuple_element_t<kIndex, Distributions>;
  if constexpr (kIndex + 1 < std::tuple_size_v<Distributions>) {
    if (given.kind != kind_of<D>()) return with_distribution<kIndex + 1>(given, function);
  }
  return function(D(given));
}

}  // namespace math
}  // namespace fastnce
