// Candidate sampling on the device. Unique sampling keeps what a sequential walk through the draws would keep, and
// counts the draws of that walk, without synchronising with the host:
//
//   1. Where the distribution rejects integers, one block lists which draws had that (cuda/sampler/draws.cuh).
//   2. The whole device computes the draws that should suffice and inserts them into a hash table, which keeps the
//      first draw of each class: with atomic minima, so the result does not depend on the order of threads.
//   3. One block walks over the draws in order, 8192 at a time. A draw counts if it is the first of its class in the
//      table. If the draws run out, the block makes more.
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
#include "cuda/runtime/warp.cuh"
#include "cuda/sampler/draws.cuh"
#include "math/candidate_stream.h"
#include "math/distribution/registry.h"
#include "math/sample_count.h"

namespace fastnce::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kWalkThreads = kListThreads;
constexpr int kDrawsPerThread = 8;  // of one step of the walk
constexpr AtomicWord kEmpty = ~AtomicWord{0};

// Arguments of one call. Pointers are to device memory.
struct SamplerArguments {
  std::int64_t range_max, num_sampled;
  std::uint64_t seed, seed2, call;
  std::uint64_t* calls;         // used instead of `call` unless null
  std::int64_t draws;           // made at a time
  std::int64_t slots;           // of the table, a power of two
  AtomicWord* classes;          // [slots]: kEmpty or the class that a slot is for
  AtomicWord* first;            // [slots]: the first draw that gave it
  std::uint32_t* slot_of_draw;  // [draws], of the draws made last
  Rejections rejections;        // of the draws made last
  std::int64_t* tries;
  const std::int64_t* labels;
  std::int64_t num_labels;
  Candidates out;
};

template <class D>
struct SamplerCall {
  SamplerArguments args;
  D distribution;
};

FASTNCE_DEVICE math::CandidateStream stream_of(const SamplerArguments& args) {
  const std::uint64_t call = args.calls != nullptr ? *args.calls : args.call;
  return {args.seed, math::candidate_stream_start(args.seed2, args.num_sampled, call)};
}

// Finds or claims the slot of a class.
FASTNCE_DEVICE std::uint32_t slot_of(const SamplerArguments& args, std::int64_t id) {
  const auto word = static_cast<AtomicWord>(id);
  const auto mask = static_cast<AtomicWord>(args.slots - 1);
  AtomicWord slot = (word * 0x9E3779B97F4A7C15u >> 32) & mask;
  for (;; slot = (slot + 1) & mask) {
    AtomicWord found = load_shared_word(args.classes + slot);
    if (found == kEmpty) found = atomic_cas(args.classes + slot, kEmpty, word);
    if (found == kEmpty || found == word) return static_cast<std::uint32_t>(slot);
  }
}

// Makes draws begin + 2 i and begin + 2 i + 1, which come from one block of random words unless integers were rejected
// (`begin` is even), and enters them in the table.
template <class D>
FASTNCE_DEVICE void enter_draws(const SamplerCall<D>& call, const math::CandidateStream& stream, std::int64_t begin,
                                std::int64_t before, std::int64_t i) {
  const SamplerArguments& args = call.args;
  DrawReader<D> reader(call.distribution, stream);
  for (std::int64_t own = 2 * i; own < 2 * i + 2; ++own) {
    const std::uint32_t slot = slot_of(args, reader.draw(begin, own, before, args.rejections));
    const auto draw = static_cast<AtomicWord>(begin + own);
    // The most frequent classes come up thousands of times: most of them need no atomic.
    if (load_shared_word(args.first + slot) > draw) atomic_min(args.first + slot, draw);
    args.slot_of_draw[own] = slot;
  }
}

// Lists the rejections of the first round of draws.
template <class D>
FASTNCE_KERNEL(kListThreads, 1)
list_kernel(FASTNCE_ARGUMENTS SamplerCall<D> call) {
  list_rejections(call.distribution, stream_of(call.args), 0, call.args.draws, 0, call.args.rejections,
                  reinterpret_cast<ListMemory*>(shared_memory()));
}

template <class D>
FASTNCE_KERNEL(kThreads, 2)
enter_draws_kernel(FASTNCE_ARGUMENTS SamplerCall<D> call) {
  const std::int64_t i = block_x() * kThreads + thread_index();
  if (2 * i < call.args.draws) enter_draws(call, stream_of(call.args), 0, 0, i);
}

template <class D>
FASTNCE_KERNEL(kWalkThreads, 1)
walk_kernel(FASTNCE_ARGUMENTS SamplerCall<D> call) {
  const SamplerArguments& args = call.args;
  auto* const memory = reinterpret_cast<ListMemory*>(shared_memory());
  const math::CandidateStream stream = stream_of(args);
  std::int64_t found = 0;
  std::int64_t before = 0;  // rejections, of the rounds before
  for (std::int64_t begin = 0;; begin += args.draws) {
    for (std::int64_t step = 0; step < args.draws; step += kWalkThreads * kDrawsPerThread) {
      const std::int64_t own = step + thread_index() * kDrawsPerThread;
      std::uint32_t slot[kDrawsPerThread];
      bool counts[kDrawsPerThread];
      int own_count = 0;
#pragma unroll
      for (int i = 0; i < kDrawsPerThread; ++i) {
        const bool drawn = own + i < args.draws;
        slot[i] = drawn ? args.slot_of_draw[own + i] : 0;
        counts[i] = drawn && load_shared_word(args.first + slot[i]) == static_cast<AtomicWord>(begin + own + i);
        own_count += counts[i] ? 1 : 0;
      }
      const BlockSum sum = sum_over_block<kWalkThreads>(own_count, memory->warp_sums);
      std::int64_t at = found + sum.before;
#pragma unroll
      for (int i = 0; i < kDrawsPerThread; ++i) {
        if (!counts[i]) continue;
        if (at < args.num_sampled)
          args.out.sampled[at] = static_cast<std::int64_t>(load_shared_word(args.classes + slot[i]));
        if (++at == args.num_sampled) *args.tries = begin + own + i + 1;
      }
      found += sum.total;
      if (found >= args.num_sampled) return;
    }
    if constexpr (D::kRetriedWords > 0) {
      before += *args.rejections.count;  // which the list overwrites only after a barrier of its own
      list_rejections(call.distribution, stream, begin + args.draws, args.draws, before, args.rejections, memory);
      sync_block();
    }
    for (std::int64_t i = thread_index(); 2 * i < args.draws; i += kWalkThreads) {
      enter_draws(call, stream, begin + args.draws, before, i);
    }
    sync_block();
  }
}

// With replacement every draw counts.
template <class D>
FASTNCE_KERNEL(kThreads, 2)
draw_kernel(FASTNCE_ARGUMENTS SamplerCall<D> call) {
  const SamplerArguments& args = call.args;
  const std::int64_t i = block_x() * kThreads + thread_index();
  if (i == 0) *args.tries = args.num_sampled;
  const math::CandidateStream stream = stream_of(args);
  DrawReader<D> reader(call.distribution, stream);
  for (std::int64_t draw = 2 * i; draw < 2 * i + 2 && draw < args.num_sampled; ++draw) {
    args.out.sampled[draw] = reader.draw(0, draw, 0, args.rejections);
  }
}

template <class D>
FASTNCE_DEVICE float expected_count(const SamplerCall<D>& call, std::int64_t id) {
  const double probability = call.distribution.probability(id);
  return static_cast<float>(math::expected_count_of_any(probability, call.args.num_sampled, *call.args.tries));
}

// Counts of sampled classes and labels. The last kernel of a call: it ends by counting the call.
template <class D>
FASTNCE_KERNEL(kThreads, 2)
count_kernel(FASTNCE_ARGUMENTS SamplerCall<D> call) {
  const SamplerArguments& args = call.args;
  const std::int64_t i = block_x() * kThreads + thread_index();
  if (i == 0 && args.calls != nullptr) *args.calls += 1;
  if (i < args.num_sampled) {
    if (args.out.sampled_count != nullptr) args.out.sampled_count[i] = expected_count(call, args.out.sampled[i]);
    return;
  }
  const std::int64_t label = i - args.num_sampled;
  if (label >= args.num_labels || args.out.true_count == nullptr) return;
  const std::int64_t id = args.labels[label];
  // The loss reports it; here the count says enough.
  args.out.true_count[label] = is_valid_id(id, args.range_max) ? expected_count(call, id) : __builtin_nanf("");
}

// At most two thirds full: it holds the classes of the draws up to the last round that was needed.
std::int64_t table_slots(std::int64_t num_sampled, std::int64_t draws) {
  return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(num_sampled + draws) * 3 / 2));
}

void take_workspace(Carver& memory, const SamplerParams& params, SamplerArguments& args) {
  args.tries = memory.take<std::int64_t>(1);
  args.draws = params.unique ? planned_draws(params) : params.num_sampled;
  if (math::with_distribution(params.distribution, []<class D>(const D&) { return D::kRetriedWords > 0; })) {
    args.rejections.capacity = rejection_capacity(args.draws);
    args.rejections.count = memory.take<std::int64_t>(1);
    args.rejections.draws = memory.take<std::uint32_t>(args.rejections.capacity);
  }
  if (!params.unique) return;
  args.slots = table_slots(params.num_sampled, args.draws);
  args.classes = memory.take<AtomicWord>(2 * args.slots);
  args.first = args.classes + args.slots;
  args.slot_of_draw = memory.take<std::uint32_t>(args.draws);
}

template <class D>
void queue(const SamplerParams& params, const SamplerCall<D>& call, const Stream& stream) {
  const SamplerArguments& args = call.args;
  if constexpr (D::kRetriedWords > 0) {
    launch(list_kernel<D>, {.x = 1}, kListThreads, static_cast<int>(sizeof(ListMemory)), stream, call);
  }
  if (params.unique) {
    constexpr int kEmptyByte = 0xFF;  // of kEmpty, and of a first draw that is later than any
    runtime::fill_bytes(args.classes, kEmptyByte, static_cast<std::size_t>(2 * args.slots) * sizeof(AtomicWord),
                        stream);
    launch(enter_draws_kernel<D>, {.x = ceiling(args.draws / 2, kThreads)}, kThreads, 0, stream, call);
    launch(walk_kernel<D>, {.x = 1}, kWalkThreads, static_cast<int>(sizeof(ListMemory)), stream, call);
  } else {
    launch(draw_kernel<D>, {.x = ceiling(params.num_sampled, 2 * kThreads)}, kThreads, 0, stream, call);
  }
  launch(count_kernel<D>, {.x = ceiling(params.num_sampled + args.num_labels, kThreads)}, kThreads, 0, stream, call);
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

std::size_t sampler_workspace_bytes(const SamplerParams& params) {
  Carver measure;
  SamplerArguments args{};
  take_workspace(measure, params, args);
  return measure.used();
}

void queue_candidates(const SamplerParams& params, std::uint64_t* calls, const std::int64_t* labels,
                      std::int64_t num_labels, const Candidates& candidates, const Workspace& workspace,
                      const Stream& stream) {
  SamplerArguments args{};
  args.range_max = params.distribution.range_max;
  args.num_sampled = params.num_sampled;
  args.seed = params.seed;
  args.seed2 = params.seed2;
  args.call = params.call;
  args.calls = calls;
  args.labels = labels;
  args.num_labels = num_labels;
  args.out = candidates;
  Carver memory(workspace);
  take_workspace(memory, params, args);
  memory.require_within(workspace);
  math::with_distribution(params.distribution, [&](const auto& distribution) {
    using D = std::remove_cvref_t<decltype(distribution)>;
    if constexpr (D::kOnDevice) queue(params, SamplerCall<D>{args, distribution}, stream);
  });
}

}  // namespace fastnce::cuda
