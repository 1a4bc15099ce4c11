// The draws of one call of a candidate sampler, in order and on threads.
#pragma once

#include <cstdint>

#include "fastnce/sampler.h"
#include "math/candidate_stream.h"

namespace fastnce::cpu {

class Draws {
 public:
  Draws(const SamplerParams& params, int threads);

  // Writes the next `count` draws to `ids`.
  void next(std::int64_t count, std::int64_t* ids);

 private:
  const Distribution& distribution_;
  const math::CandidateStream stream_;
  const int threads_;
  std::int64_t done_ = 0;        // draws
  std::int64_t rejections_ = 0;  // of integers, among the words of these draws
};

}  // namespace fastnce::cpu
