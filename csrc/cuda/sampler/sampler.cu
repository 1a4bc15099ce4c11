// Candidate sampling on the device, without synchronising with the host.
//
// One set of samples (cuda/sampler/set.cuh) has the whole device:
//   1. Where the distribution rejects integers, one block lists which draws had that (cuda/sampler/draws.cuh).
//   2. The whole device computes the draws that should suffice and enters them in the hash table.
//   3. One block walks over the draws in order, 8192 at a time. If the draws run out, it makes more.
// Of the sets of several groups each has one block, which does all three steps. As many run at once as their scratch
// memory allows.
//
// Compiled without contraction of multiplications and additions: the float64 arithmetic must round as on the CPU.
#include "cuda/sampler/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <type_traits>

#include "cuda/gemm/geometry.h"
#include "cuda/runtime/carver.h"
#include "cuda/runtime/device.cuh"
#include "cuda/runtime/ids.cuh"
#include "cuda/sampler/set.cuh"
#include "math/distribution/registry.h"
#include "math/sample_count.h"

namespace fastnce::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kWalkThreads = 1024;

// Lists the rejections of the first round of draws.
template <class D>
FASTNCE_KERNEL(kWalkThreads, 1)
list_kernel(FASTNCE_ARGUMENTS SamplerCall<D> call) {
  const SetMemory& set = call.args.memory;
  list_rejections(call.distribution, stream_of(call.args, 0), 0, set.draws, 0, set.rejections,
                  reinterpret_cast<ListMemory<kWalkThreads>*>(shared_memory()));
}

template <class D>
FASTNCE_KERNEL(kThreads, 2)
enter_draws_kernel(FASTNCE_ARGUMENTS SamplerCall<D> call) {
  const std::int64_t i = block_x() * kThreads + thread_index();
  if (2 * i >= call.args.memory.draws) return;
  enter_draws(call.distribution, call.args.memory, stream_of(call.args, 0), 0, 0, i);
}

template <class D>
FASTNCE_KERNEL(kWalkThreads, 1)
walk_kernel(FASTNCE_ARGUMENTS SamplerCall<D> call) {
  walk(call, call.args.memory, stream_of(call.args, 0), call.args.result(0),
       reinterpret_cast<ListMemory<kWalkThreads>*>(shared_memory()));
}

template <class D>
FASTNCE_KERNEL(kThreads, 2)
draw_kernel(FASTNCE_ARGUMENTS SamplerCall<D> call) {
  const std::int64_t i = block_x() * kThreads + thread_index();
  keep_draws(call, call.args.memory, stream_of(call.args, 0), call.args.result(0), i);
}

// Scratch of the block's sets.
FASTNCE_DEVICE SetMemory memory_of_block(const SamplerArguments& args) {
  SetMemory set = args.memory;
  const std::int64_t block = block_x();
  set.classes += block * set.slots;
  set.first += block * set.slots;
  set.slot_of_draw += block * set.draws;
  set.rejections.draws += block * set.rejections.capacity;
  set.rejections.count += block;
  return set;
}

// A block for each set, one after the other.
template <class D, bool kUnique>
FASTNCE_KERNEL(kThreads, 2)
sets_kernel(FASTNCE_ARGUMENTS SamplerCall<D> call) {
  auto* const memory = reinterpret_cast<ListMemory<kThreads>*>(shared_memory());
  const SetMemory set = memory_of_block(call.args);
  for (std::int64_t group = block_x(); group < call.args.groups; group += grid_x()) {
    const math::CandidateStream stream = stream_of(call.args, group);
    const SetResult result = call.args.result(group);
    if constexpr (D::kRetriedWords > 0) {
      list_rejections(call.distribution, stream, 0, set.draws, 0, set.rejections, memory);
    }
    if constexpr (kUnique) {
      for (std::int64_t i = thread_index(); i < set.slots; i += kThreads) set.classes[i] = set.first[i] = kEmpty;
      sync_block();
      for (std::int64_t i = thread_index(); 2 * i < set.draws; i += kThreads) {
        enter_draws(call.distribution, set, stream, 0, 0, i);
      }
      sync_block();
      walk(call, set, stream, result, memory);
    } else {
      sync_block();
      for (std::int64_t i = thread_index(); 2 * i < set.draws; i += kThreads) {
        keep_draws(call, set, stream, result, i);
      }
    }
    sync_block();  // the next set overwrites what this one reads
  }
}

template <class D>
FASTNCE_DEVICE float expected_count(const SamplerCall<D>& call, std::int64_t id, std::int64_t group) {
  const double probability = call.distribution.probability(id);
  return static_cast<float>(math::expected_count_of_any(probability, call.args.num_sampled, call.args.tries[group]));
}

// The group of a label. Offsets are the caller's and may be wrong: then any group, and the loss reports it.
FASTNCE_DEVICE std::int64_t group_of_label(const SamplerArguments& args, std::int64_t label) {
  if (args.groups == 1) return 0;
  if (args.label_offsets == nullptr) return label / (args.num_labels / args.groups);
  std::int64_t low = 0, high = args.groups;
  while (high - low > 1) {
    const std::int64_t middle = (low + high) / 2;
    (args.label_offsets[middle * args.served] <= label ? low : high) = middle;
  }
  return low;
}

// Counts of sampled classes and labels. The last kernel of a call: it ends by counting the call.
template <class D>
FASTNCE_KERNEL(kThreads, 2)
count_kernel(FASTNCE_ARGUMENTS SamplerCall<D> call) {
  const SamplerArguments& args = call.args;
  const std::int64_t i = block_x() * kThreads + thread_index();
  const std::int64_t samples = args.groups * args.num_sampled;
  if (i == 0 && args.calls != nullptr) *args.calls += 1;
  if (i < samples) {
    if (args.out.sampled_count == nullptr) return;
    args.out.sampled_count[i] = expected_count(call, args.out.sampled[i], i / args.num_sampled);
    return;
  }
  const std::int64_t label = i - samples;
  if (label >= args.num_labels || args.out.true_count == nullptr) return;
  const std::int64_t id = args.labels[label];
  // The loss reports it; here the count says enough.
  args.out.true_count[label] =
      is_valid_id(id, args.range_max) ? expected_count(call, id, group_of_label(args, label)) : __builtin_nanf("");
}

// At most two thirds full: it holds the classes of the draws up to the last round that was needed.
std::int64_t table_slots(std::int64_t num_sampled, std::int64_t draws) {
  return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(num_sampled + draws) * 3 / 2));
}

// How many sets are drawn at once. A sample takes some 70 bytes of scratch.
std::int64_t sets_at_once(std::int64_t groups, std::int64_t num_sampled) {
  constexpr std::int64_t kMostSets = 1024;  // 8 blocks for each of 128 multiprocessors
  constexpr std::int64_t kMostSamples = std::int64_t{1} << 20;
  return std::min({groups, kMostSets, std::max<std::int64_t>(kMostSamples / num_sampled, 1)});
}

void take_workspace(Carver& memory, const SampleRequest& request, SamplerArguments& args) {
  const SamplerParams& params = request.sources[0];
  SetMemory& set = args.memory;
  args.at_once = sets_at_once(request.groups, params.num_sampled);
  args.tries = memory.take<std::int64_t>(request.groups);
  set.draws = params.unique ? planned_draws(params) : params.num_sampled;
  if (math::with_distribution(params.distribution, []<class D>(const D&) { return D::kRetriedWords > 0; })) {
    set.rejections.capacity = rejection_capacity(set.draws);
    set.rejections.count = memory.take<std::int64_t>(args.at_once);
    set.rejections.draws = memory.take<std::uint32_t>(args.at_once * set.rejections.capacity);
  }
  if (!params.unique) return;
  set.slots = table_slots(params.num_sampled, set.draws);
  set.classes = memory.take<AtomicWord>(2 * args.at_once * set.slots);
  set.first = set.classes + args.at_once * set.slots;
  set.slot_of_draw = memory.take<std::uint32_t>(args.at_once * set.draws);
}

template <class D>
void queue_set(bool unique, const SamplerCall<D>& call, const Stream& stream) {
  const SetMemory& set = call.args.memory;
  constexpr int kListBytes = static_cast<int>(sizeof(ListMemory<kWalkThreads>));
  if constexpr (D::kRetriedWords > 0) launch(list_kernel<D>, {.x = 1}, kWalkThreads, kListBytes, stream, call);
  if (unique) {
    constexpr int kEmptyByte = 0xFF;  // of kEmpty, and of a first draw that is later than any
    runtime::fill_bytes(set.classes, kEmptyByte, static_cast<std::size_t>(2 * set.slots) * sizeof(AtomicWord), stream);
    launch(enter_draws_kernel<D>, {.x = ceiling(set.draws / 2, kThreads)}, kThreads, 0, stream, call);
    launch(walk_kernel<D>, {.x = 1}, kWalkThreads, kListBytes, stream, call);
  } else {
    launch(draw_kernel<D>, {.x = ceiling(set.draws, 2 * kThreads)}, kThreads, 0, stream, call);
  }
}

template <class D>
void queue(bool unique, const SamplerCall<D>& call, const Stream& stream) {
  const SamplerArguments& args = call.args;
  if (args.groups == 1) {
    queue_set(unique, call, stream);
  } else {
    launch(unique ? sets_kernel<D, true> : sets_kernel<D, false>, {.x = args.at_once}, kThreads,
           static_cast<int>(sizeof(ListMemory<kThreads>)), stream, call);
  }
  launch(count_kernel<D>, {.x = ceiling(args.groups * args.num_sampled + args.num_labels, kThreads)}, kThreads, 0,
         stream, call);
}

// How many draws of a log-uniform distribution give S distinct classes.
//
// With L = log(V + 1), n draws give about sum_k 1 - exp(-n p(k)) distinct classes, p(k) ~ 1 / (L k); for a = n / L that
// is a (log(V / a) + 1 - gamma) while a is much smaller than V. Solved for a.
double log_uniform_draws(double v, double s) {
  constexpr double kOneMinusGamma = 0.42278433509846714;
  double a = s;
  for (int i = 0; i < 16; ++i) a = s / (std::log(std::max(v / a, 1.0)) + kOneMinusGamma);
  return a * std::log1p(v);
}

}  // namespace

// With a tenth and 64 for luck: the variance is below the mean. Where S comes close to V this is too few, and the walk
// makes more. Unigrams are taken to be as skewed as log-uniform classes.
std::int64_t planned_draws(const SamplerParams& params) {
  const double v = static_cast<double>(params.distribution.range_max);
  const double s = static_cast<double>(params.num_sampled);
  const bool is_uniform = params.distribution.kind == math::kind_of<math::Uniform>();
  // Of a uniform distribution n draws give V (1 - exp(-n / V)) classes.
  const double mean = is_uniform ? -v * std::log1p(-std::min(s / v, 0.99)) : log_uniform_draws(v, s);
  const double draws = std::clamp(1.1 * mean, s, 4.0 * s) + 64.0;
  return static_cast<std::int64_t>(draws) / 2 * 2;
}

std::size_t sampler_workspace_bytes(const SampleRequest& request) {
  Carver measure;
  SamplerArguments args{};
  take_workspace(measure, request, args);
  return measure.used();
}

void queue_candidates(const SampleRequest& request, std::uint64_t* calls, const Candidates& candidates,
                      const Workspace& workspace, const Stream& stream) {
  const SamplerParams& params = request.sources[0];
  SamplerArguments args{};
  args.range_max = params.distribution.range_max;
  args.num_sampled = params.num_sampled;
  args.groups = request.groups;
  args.seed = params.seed;
  args.seed2 = params.seed2;
  args.call = params.call;
  args.calls = calls;
  args.labels = request.true_classes.data();
  args.num_labels = std::ssize(request.true_classes);
  args.label_offsets = request.true_offsets;
  args.served = request.batch / request.groups;
  args.out = candidates;
  Carver memory(workspace);
  take_workspace(memory, request, args);
  memory.require_within(workspace);
  math::with_distribution(params.distribution, [&](const auto& distribution) {
    using D = std::remove_cvref_t<decltype(distribution)>;
    if constexpr (D::kOnDevice) queue(params.unique, SamplerCall<D>{args, distribution}, stream);
  });
}

}  // namespace fastnce::cuda
