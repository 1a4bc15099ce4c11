// Log-uniform sampling on the device. Draw i of a call is a pure function of i. Unique sampling keeps what a sequential
// walk through the draws would keep, and counts the draws of that walk, without synchronising with the host:
//
//   1. The whole device computes the draws that should suffice and inserts them into a hash table, which keeps the
//   first
//      draw of each class: with atomic minima, so the result does not depend on the order of threads.
//   2. One block walks over the draws in order, 8192 at a time. A draw counts if it is the first of its class in the
//      table. If the draws run out, the block makes more.
//
// Compiled without contraction of multiplications and additions: the float64 arithmetic must round as on the CPU.
#include "cuda/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "cuda/carver.h"
#include "cuda/device.cuh"
#include "cuda/geometry.h"
#include "cuda/ids.cuh"
#include "cuda/warp.cuh"
#include "math/candidate_stream.h"
#include "math/distribution/log_uniform.h"

namespace fastnce::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kWalkThreads = 1024;
constexpr int kDrawsPerThread = 8;  // of one step of the walk
constexpr AtomicWord kEmpty = ~AtomicWord{0};

// Arguments of one call. Pointers are to device memory.
struct SamplerArguments {
  std::int64_t range_max, num_sampled;
  std::uint64_t seed, seed2, call;
  std::uint64_t* calls;  // used instead of `call` unless null
  double log_range;
  std::int64_t draws;           // made at a time
  std::int64_t slots;           // of the table, a power of two
  AtomicWord* classes;          // [slots]: kEmpty or the class that a slot is for
  AtomicWord* first;            // [slots]: the first draw that gave it
  std::uint32_t* slot_of_draw;  // [draws], of the draws made last
  std::int64_t* tries;
  const std::int64_t* labels;
  std::int64_t num_labels;
  Candidates out;
};

FASTNCE_DEVICE std::int64_t log_uniform_draw(const SamplerArguments& args, const math::PhiloxBlock& block, int half) {
  const std::uint32_t* const words = half == 0 ? block.word : block.word + 2;
  return math::log_uniform_id(math::uniform_double(words[0], words[1]), args.log_range, args.range_max);
}

FASTNCE_DEVICE math::PhiloxCounter stream_start(const SamplerArguments& args) {
  const std::uint64_t call = args.calls != nullptr ? *args.calls : args.call;
  return math::candidate_stream_start(args.seed2, args.num_sampled, call);
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

// Makes draws begin + 2 i and begin + 2 i + 1, which come from one block of random words (`begin` is even), and enters
// them in the table.
FASTNCE_DEVICE void enter_draws(const SamplerArguments& args, const math::PhiloxCounter& start, std::int64_t begin,
                                std::int64_t i) {
  const std::int64_t pair = begin / 2 + i;
  const math::PhiloxBlock block = math::philox4x32(args.seed, math::advanced(start, static_cast<std::uint64_t>(pair)));
  for (int half = 0; half < 2; ++half) {
    const std::uint32_t slot = slot_of(args, log_uniform_draw(args, block, half));
    const auto draw = static_cast<AtomicWord>(2 * pair + half);
    // The most frequent classes come up thousands of times: most of them need no atomic.
    if (load_shared_word(args.first + slot) > draw) atomic_min(args.first + slot, draw);
    args.slot_of_draw[2 * i + half] = slot;
  }
}

FASTNCE_KERNEL(kThreads, 2) enter_draws_kernel(FASTNCE_ARGUMENTS SamplerArguments args) {
  const std::int64_t i = block_x() * kThreads + thread_index();
  if (2 * i < args.draws) enter_draws(args, stream_start(args), 0, i);
}

FASTNCE_KERNEL(kWalkThreads, 1) walk_kernel(FASTNCE_ARGUMENTS SamplerArguments args) {
  int* const warp_sums = reinterpret_cast<int*>(shared_memory());
  const math::PhiloxCounter start = stream_start(args);
  std::int64_t found = 0;
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
      const BlockSum sum = sum_over_block<kWalkThreads>(own_count, warp_sums);
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
    for (std::int64_t i = thread_index(); 2 * i < args.draws; i += kWalkThreads) {
      enter_draws(args, start, begin + args.draws, i);
    }
    sync_block();
  }
}

// With replacement every draw counts.
FASTNCE_KERNEL(kThreads, 2) draw_kernel(FASTNCE_ARGUMENTS SamplerArguments args) {
  const std::int64_t i = block_x() * kThreads + thread_index();
  if (i == 0) *args.tries = args.num_sampled;
  if (2 * i >= args.num_sampled) return;
  const math::PhiloxBlock block =
      math::philox4x32(args.seed, math::advanced(stream_start(args), static_cast<std::uint64_t>(i)));
  for (int half = 0; half < 2 && 2 * i + half < args.num_sampled; ++half) {
    args.out.sampled[2 * i + half] = log_uniform_draw(args, block, half);
  }
}

FASTNCE_DEVICE float expected_count(const SamplerArguments& args, std::int64_t id) {
  const double probability = math::log_uniform_probability(static_cast<double>(id), args.log_range);
  return static_cast<float>(math::expected_count<double, std::int64_t>(probability, args.num_sampled, *args.tries));
}

// Counts of sampled classes and labels. The last kernel of a call: it ends by counting the call.
FASTNCE_KERNEL(kThreads, 2) count_kernel(FASTNCE_ARGUMENTS SamplerArguments args) {
  const std::int64_t i = block_x() * kThreads + thread_index();
  if (i == 0 && args.calls != nullptr) *args.calls += 1;
  if (i < args.num_sampled) {
    if (args.out.sampled_count != nullptr) args.out.sampled_count[i] = expected_count(args, args.out.sampled[i]);
    return;
  }
  const std::int64_t label = i - args.num_sampled;
  if (label >= args.num_labels || args.out.true_count == nullptr) return;
  const std::int64_t id = args.labels[label];
  // The loss reports it; here the count says enough.
  args.out.true_count[label] = is_valid_id(id, args.range_max) ? expected_count(args, id) : __builtin_nanf("");
}

// At most two thirds full: it holds the classes of the draws up to the last round that was needed.
std::int64_t table_slots(std::int64_t num_sampled, std::int64_t draws) {
  return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(num_sampled + draws) * 3 / 2));
}

void take_workspace(Carver& memory, const SamplerParams& params, SamplerArguments& args) {
  args.tries = memory.take<std::int64_t>(1);
  if (!params.unique) return;
  args.draws = planned_draws(params.distribution.range_max, params.num_sampled);
  args.slots = table_slots(params.num_sampled, args.draws);
  args.classes = memory.take<AtomicWord>(2 * args.slots);
  args.first = args.classes + args.slots;
  args.slot_of_draw = memory.take<std::uint32_t>(args.draws);
}

}  // namespace

// With L = log(V + 1), n draws give about sum_k 1 - exp(-n p(k)) distinct classes, p(k) ~ 1 / (L k); for a = n / L that
// is a (log(V / a) + 1 - gamma) while a is much smaller than V. Solved for a, with a tenth and 64 for luck: its
// variance is below its mean. Where S comes close to V this is too few, and the walk makes more.
std::int64_t planned_draws(std::int64_t range_max, std::int64_t num_sampled) {
  const double v = static_cast<double>(range_max);
  const double s = static_cast<double>(num_sampled);
  constexpr double kOneMinusGamma = 0.42278433509846714;
  double a = s;
  for (int i = 0; i < 16; ++i) a = s / (std::log(std::max(v / a, 1.0)) + kOneMinusGamma);
  const double draws = std::clamp(1.1 * a * std::log1p(v), s, 4.0 * s) + 64.0;
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
  args.log_range = math::log_uniform_log_range(params.distribution.range_max);
  args.labels = labels;
  args.num_labels = num_labels;
  args.out = candidates;
  Carver memory(workspace);
  take_workspace(memory, params, args);
  memory.require_within(workspace);
  if (params.unique) {
    constexpr int kEmptyByte = 0xFF;  // of kEmpty, and of a first draw that is later than any
    runtime::fill_bytes(args.classes, kEmptyByte, static_cast<std::size_t>(2 * args.slots) * sizeof(AtomicWord),
                        stream);
    launch(enter_draws_kernel, {.x = ceiling(args.draws / 2, kThreads)}, kThreads, 0, stream, args);
    launch(walk_kernel, {.x = 1}, kWalkThreads, kWalkThreads / kWarp * static_cast<int>(sizeof(int)), stream, args);
  } else {
    launch(draw_kernel, {.x = ceiling(params.num_sampled, 2 * kThreads)}, kThreads, 0, stream, args);
  }
  launch(count_kernel, {.x = ceiling(params.num_sampled + num_labels, kThreads)}, kThreads, 0, stream, args);
}

}  // namespace fastnce::cuda
