// The named shapes on which fastnce is measured, here and in bench/peers/shapes.py.
#pragma once

#include <cstdint>

namespace fastnce::bench {

struct Shape {
  const char* name;
  std::int64_t num_classes, dim, batch, num_true, num_sampled;
};

inline constexpr Shape kShapes[] = {
    {"w2v", 50'000, 128, 128, 1, 64},           {"w2v_big", 100'000, 128, 4'096, 1, 64},
    {"sgns", 100'000, 128, 1'024, 1, 1'024},    {"lm", 800'000, 512, 2'560, 1, 8'192},
    {"recsys", 2'000'000, 64, 8'192, 1, 4'096}, {"multi", 200'000, 256, 512, 5, 1'024},
};

void register_sampler();
void register_sampled_loss();

}  // namespace fastnce::bench
