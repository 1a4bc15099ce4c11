// The log-uniform sampler for JAX, keyed by the words of a JAX key.
#include <span>
#include <string_view>
#include <vector>

#include "bindings/arrays/class_range.h"
#include "bindings/jax/jax_device.h"
#include "bindings/jax/jax_ffi.h"
#include "fastnce/sampler.h"

namespace fastnce::bindings::jax {

namespace {

// Operands, results and options, in the order in which they come. The names are those of arguments, for errors.
struct SamplerCall {
  explicit SamplerCall(const xla::CallFrame& frame) : xla_call(frame, 2, 3) {
    if (key.type() != ElementType::kUInt32 || (key.elements() != 2 && key.elements() != 4)) {
      throw InvalidType("expected a key of 2 or 4 words of 32 bits");
    }
  }

  Call xla_call;
  Buffer key = xla_call.operand(0);           // [2] or [4], uint32
  Buffer classes = xla_call.operand(1);       // true classes [B, T] or [n]
  Buffer ids = xla_call.result(0);            // sampled classes [S]
  Buffer true_count = xla_call.result(1);     // as classes, float32
  Buffer sampled_count = xla_call.result(2);  // [S], float32

  float* true_counts() const { return static_cast<float*>(true_count.data()); }
  float* sampled_counts() const { return static_cast<float*>(sampled_count.data()); }

  // Two words of 32 bits are the two seeds; of four, each pair makes one, the first its upper half.
  SamplerParams params(std::span<const std::uint32_t> words) const {
    require_extent(true_count, "true_expected_count", classes.elements(), DType::kFloat32);
    require_extent(sampled_count, "sampled_expected_count", ids.bytes() / sizeof(std::int64_t), DType::kFloat32);
    SamplerParams params{
        .distribution = {.range_max = xla_call.integer("range_max")},
        .num_sampled = static_cast<std::int64_t>(sampled_count.elements()),
        .unique = xla_call.flag("unique"),
        .seed = words[0],
        .seed2 = words[1],
    };
    if (words.size() == 4) {
      params.seed = std::uint64_t{words[0]} << 32 | words[1];
      params.seed2 = std::uint64_t{words[2]} << 32 | words[3];
    }
    return params;
  }
};

void draw_on_cpu(const xla::CallFrame& frame) {
  const SamplerCall call(frame);
  const SamplerParams params = call.params({static_cast<const std::uint32_t*>(call.key.data()), call.key.elements()});
  const HostIds classes(call.classes);
  require_in_range(classes.all(), call.classes.rank() == 2 ? call.classes.dimension(1) : 0,
                   call.xla_call.text("classes_name"), call.xla_call.text("range_name"), params.distribution.range_max);
  std::int64_t* const ids = id_words(call.ids);
  const std::int64_t tries = sample_candidates(params, ids);
  expected_counts(params, tries, classes.all(), call.true_counts());
  expected_counts(params, tries, {ids, static_cast<std::size_t>(params.num_sampled)}, call.sampled_counts());
}

// The backend takes seeds from the host: this waits for the key.
void queue_draw_on_cuda(const xla::CallFrame& frame) {
  const SamplerCall call(frame);
  DeviceCall gpu(frame);
  std::vector<std::uint32_t> words;
  const auto* const key = reinterpret_cast<const std::int64_t*>(call.key.data());
  for (std::size_t pair = 0; pair < call.key.elements() / 2; ++pair) {
    const auto both = static_cast<std::uint64_t>(cuda::read(key + pair, gpu.stream()));
    words.push_back(static_cast<std::uint32_t>(both));
    words.push_back(static_cast<std::uint32_t>(both >> 32));
  }
  const SamplerParams params = call.params(words);
  const cuda::Candidates candidates{
      .sampled = id_words(call.ids), .sampled_count = call.sampled_counts(), .true_count = call.true_counts()};
  cuda::sample_candidates(params, nullptr, gpu.ids(call.classes), static_cast<std::int64_t>(call.classes.elements()),
                          candidates, gpu.workspace(cuda::workspace_bytes(params)), gpu.stream());
}

}  // namespace

xla::Handler* const kSamplerOnCpu = kOnCpu<draw_on_cpu>;
xla::Handler* const kSamplerOnCuda = kOnCuda<queue_draw_on_cuda>;

}  // namespace fastnce::bindings::jax
