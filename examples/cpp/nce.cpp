// The loss of two examples over five classes, in C++.
#include <fastnce/fastnce.h>

#include <cstdio>

int main() {
  const float weights[5][2] = {{1, 0}, {0, 1}, {1, 1}, {-1, 0}, {0, -1}}, biases[5] = {}, x[2][2] = {{1, 2}, {3, -1}};
  const fastnce::Shard weight_rows{weights, 5, 2}, bias_rows{biases, 5, 1};
  const std::int64_t labels[2] = {0, 3}, sampled[2] = {1, 4};
  const float true_count[2] = {0.5f, 0.2f}, sampled_count[2] = {0.4f, 0.1f};
  float loss[2];

  fastnce::LossRequest request;
  request.batch = 2, request.dim = 2, request.num_classes = 5;
  request.targets = {.per_example = 1, .ids = labels, .expected_count = true_count};
  request.negatives = {.count = 2, .ids = sampled, .expected_count = sampled_count};
  request.weights.shards = {&weight_rows, 1}, request.biases.shards = {&bias_rows, 1};
  request.inputs = x, request.inputs_stride = 2;
  fastnce::run(fastnce::plan(request), {.loss = loss});
  std::printf("loss %.6f %.6f\n", loss[0], loss[1]);

  const std::string reason = fastnce::cuda::unavailable_reason();  // csrc/include/fastnce/cuda.h: CUDA
  std::printf("CUDA: %s\n", reason.empty() ? fastnce::cuda::devices()[0].name.c_str() : reason.c_str());
}
