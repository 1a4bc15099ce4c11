// What one step on a CUDA device moves and launches, counted on the emulated device with the geometry of an H100: no
// times. Prints a table for each shape and level.
//
//     cmake --build --preset emulated --target fastnce_cuda_counts
//     build/emulated/bench/fastnce_cuda_counts lm recsys
#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "block.h"
#include "fastnce/cuda.h"
#include "memory.h"
#include "shapes.h"

namespace fastnce::bench {
namespace {

namespace emulated = cuda::emulated;

struct Level {
  const char* name;
  DType dtype;
  Precision precision;
};
constexpr Level kLevels[] = {{"bfloat16, medium", DType::kBFloat16, Precision::kMedium},
                             {"float32, highest", DType::kFloat32, Precision::kHighest}};

// Rows that were never written read as zeros and take no memory.
void* sparse(std::int64_t elements, DType dtype) {
  const std::size_t bytes = static_cast<std::size_t>(elements) * static_cast<std::size_t>(element_bytes(dtype));
  void* const data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) std::abort();
  emulated::lend(data, bytes);
  return data;
}

template <class T>
T* array(std::int64_t count) {
  return static_cast<T*>(cuda::allocate(static_cast<std::size_t>(count) * sizeof(T), {}));
}

cuda::Workspace workspace(std::size_t bytes) { return {cuda::allocate(bytes, {}), bytes}; }

struct Member {
  const char* name;
  LossFamily family;
};
constexpr Member kMembers[] = {{"nce_loss", LossFamily::kLogistic}, {"sampled_softmax_loss", LossFamily::kSoftmax}};

void count(const Shape& shape, const Level& level, const Member& member) {
  const auto [name, num_classes, dim, batch, num_true, num_sampled] = shape;
  // Zipfian labels: the sampler's own distribution.
  std::vector<std::int64_t> drawn(static_cast<std::size_t>(batch * num_true));
  sample_candidates(
      {.distribution = {.range_max = num_classes}, .num_sampled = batch * num_true, .unique = false, .seed = 1},
      drawn.data());
  const std::int64_t rows = batch * num_true + num_sampled;
  std::int64_t* const labels = array<std::int64_t>(batch * num_true);
  std::memcpy(labels, drawn.data(), drawn.size() * sizeof drawn[0]);
  const SamplerParams sampling{.distribution = {.range_max = num_classes}, .num_sampled = num_sampled, .seed = 2};
  const cuda::Candidates candidates{.sampled = array<std::int64_t>(num_sampled),
                                    .sampled_count = array<float>(num_sampled),
                                    .true_count = array<float>(batch * num_true)};
  const Shard weights{sparse(num_classes * dim, level.dtype), num_classes, dim};
  const Shard biases{sparse(num_classes, DType::kFloat32), num_classes, 1};
  LossRequest request;
  request.loss = {.family = member.family};
  request.wanted = {.loss = true, .grad_inputs = true, .grad_weights = true, .grad_biases = true};
  request.precision = level.precision;
  request.weights_dtype = request.inputs_dtype = level.dtype;
  request.batch = batch;
  request.dim = dim;
  request.num_classes = num_classes;
  request.targets = {.per_example = num_true, .ids = labels, .expected_count = candidates.true_count};
  request.negatives = {.count = num_sampled, .ids = candidates.sampled, .expected_count = candidates.sampled_count};
  request.weights.shards = {&weights, 1};
  request.biases.shards = {&biases, 1};
  request.inputs = sparse(batch * dim, level.dtype);
  request.inputs_stride = dim;
  const LossOutputs outputs{.loss = array<float>(batch),
                            .grad_inputs = sparse(batch * dim, level.dtype),
                            .grad_weights = sparse(rows * dim, level.dtype),
                            .grad_biases = array<float>(rows),
                            .grad_inputs_dtype = level.dtype,
                            .grad_weights_dtype = level.dtype,
                            .row_ids = array<std::int64_t>(rows),
                            .row_count = array<std::int64_t>(1)};
  const cuda::LossPlan plan = cuda::plan(request, 0);

  emulated::reset_counters();
  cuda::sample_candidates(sampling, nullptr, labels, batch * num_true, candidates,
                          workspace(cuda::workspace_bytes(sampling)), {});
  cuda::run(plan, outputs, workspace(plan.workspace_bytes), {});

  std::printf("\n%s, %s, %s\n%-24s %8s %12s %12s\n", member.name, name, level.name, "", "launches", "MB read",
              "MB written");
  emulated::Counters total;
  const auto print = [](const std::string& what, const emulated::Counters& counted) {
    std::printf("%-24s %8lld %12.3f %12.3f\n", what.c_str(), static_cast<long long>(counted.launches),
                static_cast<double>(counted.bytes_read) / 1e6, static_cast<double>(counted.bytes_written) / 1e6);
  };
  for (const auto& [what, counted] : emulated::counters()) {
    print(what, counted);
    total.launches += counted.launches;
    total.bytes_read += counted.bytes_read;
    total.bytes_written += counted.bytes_written;
  }
  print("all", total);
}

}  // namespace
}  // namespace fastnce::bench

int main(int argc, char** argv) {
  using namespace fastnce::bench;
  fastnce::cuda::emulated::limits = {132, 50 << 20, 228 << 10};
  for (const char* const products : {"logits_kernel", "product_kernel"}) {
    fastnce::cuda::emulated::run_at_most(products, 2);
  }
  for (const Shape& shape : kShapes) {
    bool wanted = argc == 1;
    for (int i = 1; i < argc; ++i) wanted |= std::string_view(argv[i]) == shape.name;
    for (const Level& level : kLevels) {
      for (const Member& member : kMembers) {
        if (wanted) count(shape, level, member);
      }
    }
  }
}
