// The draws of one call of a candidate sampler, in order and on threads.
#pragma once

#include <cstdint>

#include "cpu/runtime/interrupt.h"
#include "fastnce/sampler.h"
#include "math/candidate_stream.h"

namespace fastnce::cpu {

class Draws {
 public:
  Draws(const SamplerParams& params, int threads, Interruption& interruption);

  // Writes the next `count` draws to `ids`. Throws Interrupted if the call is to end.
  void next(std::int64_t count, std::int64_t* ids);

 private:
  const Distribution& distribution_;
  const math::CandidateStream stream_;
  const int threads_;
  Interruption& interruption_;
  std::int64_t done_ = 0;        // draws
  std::int64_t rejections_ = 0;  // of integers, among the words of these draws
};

}  // namespace fastnce::cpu
