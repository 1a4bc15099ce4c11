// Comparing each logit with each class that its example removes would take E comparisons per logit for E classes, E of
// them labels or excluded. Here a class is looked up once for all samples: E lookups per example, and an atomic per
// logit that is removed. The logits' kernels read a bit per logit. The bits of a chunk take a sixteenth of its G.
#include "cuda/loss/removed.h"

#include "cuda/gemm/geometry.h"
#include "cuda/runtime/ids.cuh"
#include "cuda/runtime/runtime.h"
#include "cuda/runtime/warp.cuh"

namespace fastnce::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr AtomicWord kEmpty = ~AtomicWord{0};

FASTNCE_DEVICE std::int64_t key_of(const SampledKeys& keys, std::int64_t id) {
  return keys.class_keys != nullptr ? keys.class_keys[id] : id;
}

FASTNCE_DEVICE AtomicWord first_slot(const SampledKeys& keys, std::int64_t key, std::int64_t group) {
  const AtomicWord of_both = static_cast<AtomicWord>(key) + static_cast<AtomicWord>(group) * 0xD1B54A32D192ED03u;
  return (of_both * 0x9E3779B97F4A7C15u >> 32) & static_cast<AtomicWord>(keys.slots - 1);
}
FASTNCE_DEVICE AtomicWord next_slot(const SampledKeys& keys, AtomicWord slot) {
  return (slot + 1) & static_cast<AtomicWord>(keys.slots - 1);
}

FASTNCE_DEVICE std::int64_t group_of(const SampledKeys& keys, std::int64_t sample) { return sample / keys.of_group; }

// Whether a sample, the first that came to its slot, has the key and is of the group.
FASTNCE_DEVICE bool has_key(const SampledKeys& keys, AtomicWord sample, std::int64_t key, std::int64_t group) {
  return key_of(keys, keys.sampled[sample]) == key && group_of(keys, static_cast<std::int64_t>(sample)) == group;
}

// A thread per sample, in all three kernels. Which sample a slot names, and the order of positions, depend on the order
// of threads; the bits do not.
FASTNCE_KERNEL(kThreads, 1) enter_keys_kernel(FASTNCE_ARGUMENTS SampledKeys keys) {
  const std::int64_t s = block_x() * kThreads + thread_index();
  if (s >= keys.num_sampled || !is_valid_id(keys.sampled[s], keys.num_classes)) return;
  const std::int64_t key = key_of(keys, keys.sampled[s]);
  const std::int64_t group = group_of(keys, s);
  for (AtomicWord slot = first_slot(keys, key, group);; slot = next_slot(keys, slot)) {
    AtomicWord found = load_shared_word(keys.first + slot);
    if (found == kEmpty) found = atomic_cas(keys.first + slot, kEmpty, static_cast<AtomicWord>(s));
    if (found == kEmpty) found = static_cast<AtomicWord>(s);
    if (!has_key(keys, found, key, group)) continue;
    atomic_add(keys.count + found, 1);
    keys.slot_of[s] = static_cast<std::uint32_t>(slot);
    return;
  }
}

FASTNCE_KERNEL(kThreads, 1) place_keys_kernel(FASTNCE_ARGUMENTS SampledKeys keys) {
  const std::int64_t s = block_x() * kThreads + thread_index();
  if (s >= keys.num_sampled) return;
  const AtomicWord count = keys.count[s];                     // 0 where another sample has the slot
  if (count > 0) keys.end[s] = atomic_add(keys.used, count);  // where they begin, so far
}

FASTNCE_KERNEL(kThreads, 1) list_positions_kernel(FASTNCE_ARGUMENTS SampledKeys keys) {
  const std::int64_t s = block_x() * kThreads + thread_index();
  if (s >= keys.num_sampled || !is_valid_id(keys.sampled[s], keys.num_classes)) return;
  keys.positions[atomic_add(keys.end + keys.first[keys.slot_of[s]], 1)] = static_cast<std::uint32_t>(s);
}

// Positions of samples.
struct Run {
  std::uint32_t begin, end;
};

FASTNCE_DEVICE Run find(const SampledKeys& keys, std::int64_t key, std::int64_t group) {
  for (AtomicWord slot = first_slot(keys, key, group);; slot = next_slot(keys, slot)) {
    const AtomicWord found = keys.first[slot];
    if (found == kEmpty) return {0, 0};
    if (!has_key(keys, found, key, group)) continue;
    const AtomicWord end = keys.end[found];
    return {static_cast<std::uint32_t>(end - keys.count[found]), static_cast<std::uint32_t>(end)};
  }
}

// A warp removes the samples that its lanes have found: all lanes those of one after the other, since a class may have
// been sampled hundreds of times.
FASTNCE_DEVICE void remove_runs(const RemovedArguments& args, AtomicWord* words, std::int64_t group, const Run& own) {
  const auto first = static_cast<std::uint32_t>(group * args.keys.of_group);
  for (int lane = 0; lane < kWarp; ++lane) {
    const std::uint32_t begin = shuffle(own.begin, lane);
    const std::uint32_t end = shuffle(own.end, lane);
    for (std::uint32_t i = begin + thread_index() % kWarp; i < end; i += kWarp) {
      const std::uint32_t s = args.keys.positions[i] - first;
      atomic_or(words + s / 64, AtomicWord{1} << s % 64);
    }
  }
}

// Those that have the key of one of `count` labels, or one of the keys themselves; key_at(i, key) says whether there is
// one.
template <class KeyAt>
FASTNCE_DEVICE void remove_listed(const RemovedArguments& args, AtomicWord* words, std::int64_t group,
                                  std::int64_t begin, std::int64_t end, const KeyAt& key_at) {
  for (std::int64_t first = begin; first < end; first += kWarp) {
    const std::int64_t i = first + thread_index() % kWarp;
    std::int64_t key = 0;
    const bool has_key = i < end && key_at(i, key);
    if (args.keys.slots == 0) {
      const std::int64_t s = key - args.keys.first_class;
      if (has_key && is_valid_id(s, args.keys.num_sampled)) atomic_or(words + s / 64, AtomicWord{1} << s % 64);
      continue;
    }
    remove_runs(args, words, group, has_key ? find(args.keys, key, group) : Run{0, 0});
  }
}

// A warp per row of the chunk.
FASTNCE_KERNEL(kThreads, 1) removed_kernel(FASTNCE_ARGUMENTS RemovedArguments args) {
  const std::int64_t row = block_x() * kWarps + thread_index() / kWarp;
  if (row >= args.rows) return;
  AtomicWord* const words = args.words + row_offset(row, args.pitch);
  for (std::int64_t w = thread_index() % kWarp * 2; w < args.pitch; w += 2 * kWarp) store_16_bytes(words + w, {});
  if (row >= args.examples) return;
  sync_warp();
  const std::int64_t b = args.first + row;
  const std::int64_t group = b / args.served;
  const std::int64_t num_classes = args.keys.num_classes;
  if (args.labels) {
    const std::int64_t begin = args.targets.begin(b);
    remove_listed(args, words, group, begin, begin + args.targets.count(b), [&](std::int64_t e, std::int64_t& key) {
      const std::int64_t id = args.targets.ids[e];
      if (!is_valid_id(id, num_classes) || is_padding(args.targets.padding, id)) return false;
      key = key_of(args.keys, id);
      return true;
    });
  }
  if (args.exclude.offsets == nullptr) return;
  remove_listed(args, words, group, args.exclude.begin(b), args.exclude.begin(b + 1),
                [&](std::int64_t i, std::int64_t& key) {
                  key = args.excluded[i];
                  if (args.keys.class_keys != nullptr || is_valid_id(key, num_classes)) return true;
                  if (args.keys.first_class == 0) {  // once for all blocks of classes
                    record_fault(args.faults, IdArgument::kExcludeValues, i, key, 0, num_classes);
                  }
                  return false;
                });
}

}  // namespace

void queue_sampled_keys(const SampledKeys& keys, const Stream& stream) {
  const auto fill = [&](AtomicWord* words, int byte, std::int64_t count) {
    runtime::fill_bytes(words, byte, static_cast<std::size_t>(count) * sizeof *words, stream);
  };
  if (keys.slots == 0) return;
  fill(keys.first, 0xFF, keys.slots);
  fill(keys.count, 0, keys.num_sampled);
  fill(keys.used, 0, 1);
  const Grid grid{.x = ceiling(keys.num_sampled, kThreads)};
  launch(enter_keys_kernel, grid, kThreads, 0, stream, keys);
  launch(place_keys_kernel, grid, kThreads, 0, stream, keys);
  launch(list_positions_kernel, grid, kThreads, 0, stream, keys);
}

void queue_removed(const RemovedArguments& args, const Stream& stream) {
  launch(removed_kernel, {.x = ceiling(args.rows, kWarps)}, kThreads, 0, stream, args);
}

}  // namespace fastnce::cuda
