// What the size of a tile depends on, and what it is.
#pragma once

#include <cstdint>

namespace fastnce::cpu {

// The product that tiles cut up.
struct PlaneShape {
  std::int64_t batch, num_sampled, dim;
  bool grad_inputs;       // dX is wanted
  std::int64_t l2_bytes;  // of the processor's L2 cache
};

// A tile at its full size.
struct TileSizes {
  std::int64_t examples, samples;
  std::int64_t x_elements, logits_elements;  // of packed X and of the logits
};

}  // namespace fastnce::cpu
