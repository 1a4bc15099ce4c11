// Which sampled classes each example removes, as bits: a lookup in a table of the sampled keys for each label and each
// excluded class, whatever the number of samples.
#pragma once

#include <cstdint>

#include "cuda/rows/targets.cuh"

namespace fastnce::cuda {

// The samples by key: a hash table whose slots name a sample of a key, and the positions of each key's samples. Without
// a table they are the classes from `first_class` on, in order.
struct SampledKeys {
  std::int64_t first_class = 0;
  const std::int64_t* sampled = nullptr;     // z [G, S]
  const std::int64_t* class_keys = nullptr;  // [V]; null: a class is its key
  std::int64_t num_sampled;                  // G S
  std::int64_t of_group = 0;                 // S
  std::int64_t num_classes;
  std::int64_t slots = 0;              // a power of two, at least 2 G S; 0: there is no table
  AtomicWord* first = nullptr;         // [slots]: a sample; all ones: the slot is empty
  AtomicWord* count = nullptr;         // [G S]: of a sample in a slot, how many of its group have its key
  AtomicWord* end = nullptr;           // [G S]: likewise, where those end in `positions`
  AtomicWord* used = nullptr;          // [1], of `positions`
  std::uint32_t* slot_of = nullptr;    // [G S]: of each sample; meaningless for those out of range
  std::uint32_t* positions = nullptr;  // [G S]
};
void queue_sampled_keys(const SampledKeys& keys, const Stream& stream);

struct RemovedArguments {
  SampledKeys keys;
  DeviceTargets targets;
  bool labels;  // whether samples with the key of a label are removed
  DeviceLists exclude;
  const std::int64_t* excluded;  // keys of samples that are removed, too, in lists
  std::int64_t first, examples;  // of the chunk
  std::int64_t rows;             // examples, padded
  std::int64_t served;           // examples of a group
  AtomicWord* words;             // [rows, pitch]: bit s % 64 of word s / 64 says that sample s of the group is removed
  std::int64_t pitch;            // in words; even
  runtime::FaultRecord* faults;
};
void queue_removed(const RemovedArguments& arguments, const Stream& stream);

}  // namespace fastnce::cuda
