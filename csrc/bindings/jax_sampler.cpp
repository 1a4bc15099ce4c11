// The log-uniform sampler for JAX, keyed by the words of a JAX key.
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings/class_range.h"
#include "bindings/jax_ffi.h"
#include "fastnce/sampler.h"

namespace fastnce::bindings::jax {

namespace {

// Operands, results and options, in the order in which they come. The names are those of arguments, for errors.
struct SamplerCall {
  Buffer key, classes;
  Result ids, true_count, sampled_count;
  std::int64_t range_max;
  bool unique;
  std::string_view classes_name, range_name;

  // Two words of 32 bits are the two seeds; of four, each pair makes one, the first its upper half.
  LogUniformParams params(std::span<const std::uint32_t> words) {
    require_extent(*true_count, "true_expected_count", classes.element_count(), DType::kFloat32);
    require_extent(*sampled_count, "sampled_expected_count", ids->size_bytes() / sizeof(std::int64_t), DType::kFloat32);
    LogUniformParams params{
        .range_max = range_max,
        .num_sampled = static_cast<std::int64_t>(sampled_count->element_count()),
        .unique = unique,
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

void draw_on_cpu(SamplerCall call) {
  const LogUniformParams params = call.params({call.key.typed_data<std::uint32_t>(), call.key.element_count()});
  const HostIds classes(call.classes);
  require_in_range(classes.all(), call.classes.dimensions()[1], call.classes_name, call.range_name, params.range_max);
  std::int64_t* const ids = id_words(*call.ids);
  const std::int64_t tries = log_uniform_sample(params, ids);
  log_uniform_expected_count(params, tries, classes.all(), call.true_count->typed_data<float>());
  log_uniform_expected_count(params, tries, {ids, static_cast<std::size_t>(params.num_sampled)},
                             call.sampled_count->typed_data<float>());
}

// The backend takes seeds from the host: this waits for the key.
void queue_on_cuda(SamplerCall call, DeviceCall& gpu) {
  std::vector<std::uint32_t> words;
  const auto* const key = reinterpret_cast<const std::int64_t*>(call.key.untyped_data());
  for (std::size_t pair = 0; pair < call.key.element_count() / 2; ++pair) {
    const auto both = static_cast<std::uint64_t>(cuda::read(key + pair, gpu.stream()));
    words.push_back(static_cast<std::uint32_t>(both));
    words.push_back(static_cast<std::uint32_t>(both >> 32));
  }
  const LogUniformParams params = call.params(words);
  const cuda::Candidates candidates{.sampled = id_words(*call.ids),
                                    .sampled_count = call.sampled_count->typed_data<float>(),
                                    .true_count = call.true_count->typed_data<float>()};
  cuda::log_uniform_candidates(params, nullptr, gpu.ids(call.classes),
                               static_cast<std::int64_t>(call.classes.element_count()), candidates,
                               gpu.workspace(cuda::workspace_bytes(params)), gpu.stream());
}

template <class Bind>
auto bound(Bind binding) {
  return std::move(binding)
      .template Arg<Buffer>()  // key [2] or [4], uint32
      .template Arg<Buffer>()  // true classes [B, T]
      .template Ret<Buffer>()  // sampled classes [S]
      .template Ret<Buffer>()  // true counts [B, T], float32
      .template Ret<Buffer>()  // sampled counts [S], float32
      .template Attr<std::int64_t>("range_max")
      .template Attr<bool>("unique")
      .template Attr<std::string_view>("classes_name")
      .template Attr<std::string_view>("range_name");
}

XLA_FFI_DEFINE_HANDLER(
    on_cpu, [](auto... operands) { return reporting_errors([&] { draw_on_cpu(SamplerCall{operands...}); }); },
    bound(ffi::Ffi::Bind()));

XLA_FFI_DEFINE_HANDLER(
    on_cuda,
    [](void* stream, std::int32_t device, ffi::ScratchAllocator scratch, auto... operands) {
      return reporting_errors([&] {
        DeviceCall gpu(stream, device, scratch);
        queue_on_cuda(SamplerCall{operands...}, gpu);
      });
    },
    bound(ffi::Ffi::Bind().Ctx<ffi::PlatformStream<void*>>().Ctx<ffi::DeviceOrdinal>().Ctx<ffi::ScratchAllocator>()));

}  // namespace

XLA_FFI_Handler* const kSamplerOnCpu = on_cpu;
XLA_FFI_Handler* const kSamplerOnCuda = on_cuda;

}  // namespace fastnce::bindings::jax
