// All distributions, by kind. A distribution is a struct that both backends copy into their loops:
//   kFixedWords, kRetriedWords    the random words that it takes (math/candidate_stream.h)
//   kOnDevice                     whether the CUDA backend draws from it
//   accepts(integer)              whether the integer at these words counts, or the next one is drawn
//   id(fixed, integer)            the class that these words draw
//   probability(k)                of class k in one draw, rounded to float32: expected counts start from that
#pragma once

#include "math/distribution/all.h"
#include "math/distribution/learned_unigram.h"
#include "math/distribution/log_uniform.h"
#include "math/distribution/uniform.h"
#include "math/distribution/unigram.h"

namespace fastnce::math {

// Calls function(distribution) for the kind of `given`, a fastnce::Distribution.
template <class Distribution, class Function>
decltype(auto) with_distribution(const Distribution& given, const Function& function) {
  using Kind = decltype(given.kind);
  switch (given.kind) {
    case Kind::kUniform: return function(Uniform(given.range_max));
    case Kind::kUnigram:
      return function(Unigram(given.range_max, given.unigram.weights, given.unigram.total, given.unigram.alias_table));
    case Kind::kLearnedUnigram:
      return function(LearnedUnigram(given.range_max, given.learned.weights, given.learned.tree,
                                     given.learned.weights == nullptr ? given.range_max : given.learned.total));
    case Kind::kAll: return function(All{});
    case Kind::kLogUniform: break;
  }
  return function(LogUniform(given.range_max));
}

}  // namespace fastnce::math
