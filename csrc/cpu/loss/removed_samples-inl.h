// Samples that examples remove. Of one group they are listed before the call (HitLists in loss_task.h). Of several,
// each class that an example removes is compared with all samples of its group, a vector at a time; long lists pass
// through a Bloom filter of the group's samples first. Compiled once per instruction set; the rules are in simd-inl.h.

using Ids = VecBits<double>;  // a vector of ids

[[gnu::always_inline]] inline Ids load_ids(const std::int64_t* ids) {
  typedef std::int64_t Unaligned __attribute__((vector_size(kVectorBytes), aligned(alignof(std::int64_t)), may_alias));
  return *reinterpret_cast<const Unaligned*>(ids);
}

template <int kDistance = kLanes<double> / 2, int... I>
[[gnu::always_inline]] inline Ids or_swapped(Ids value, std::integer_sequence<int, I...>) {
  return value | __builtin_shufflevector(value, value, (I ^ kDistance)...);
}

template <int kDistance = kLanes<double> / 2>
[[gnu::always_inline]] inline bool any_lane(Ids value) {
  if constexpr (kDistance == 0) {
    return value[0] != 0;
  } else {
    using Lanes = std::make_integer_sequence<int, kLanes<double>>;
    return any_lane<kDistance / 2>(or_swapped<kDistance>(value, Lanes{}));
  }
}

[[gnu::always_inline]] inline bool is_among(std::int64_t key, const std::int64_t* keys, std::int64_t count) {
  Ids equal{};
  std::int64_t i = 0;
  for (; i + kLanes<double> <= count; i += kLanes<double>) equal |= load_ids(keys + i) == key;
  bool found = any_lane(equal);
  for (; i < count; ++i) found |= keys[i] == key;
  return found;
}

// Two bits of the filter for each class: of the samples' classes both are set, of others both in one of some 256.
struct FilterBits {
  std::uint64_t first, second;

  [[gnu::always_inline]] FilterBits(std::int64_t key, int log2_size) {
    const std::uint64_t product = static_cast<std::uint64_t>(key) * 0x9E3779B97F4A7C15u;  // 2^64 / golden ratio
    first = product >> (64 - log2_size);
    second = (product << log2_size ^ product) >> (64 - log2_size);
  }
  [[gnu::always_inline]] static bool test(const std::uint64_t* filter, std::uint64_t bit) {
    return (filter[bit / 64] >> (bit % 64) & 1) != 0;
  }
  [[gnu::always_inline]] static void set(std::uint64_t* filter, std::uint64_t bit) {
    filter[bit / 64] |= std::uint64_t{1} << (bit % 64);
  }
};

void fill_filter(const std::int64_t* keys, std::int64_t count, std::uint64_t* filter, int log2_size) {
  for (std::int64_t i = 0; i < (std::int64_t{1} << log2_size) / 64; ++i) filter[i] = 0;
  for (std::int64_t s = 0; s < count; ++s) {
    const FilterBits bits(keys[s], log2_size);
    FilterBits::set(filter, bits.first);
    FilterBits::set(filter, bits.second);
  }
}

template <class Tile, class T = typename Tile::Element>
void remove_from_group(const LossTask<T>& task, Range examples, Range sampled, const Tile& tile) {
  const RemovedClasses& removed = task.removed;
  const std::int64_t* const keys = task.group.keys + sampled.begin;
  const std::uint64_t* const filter = task.group.filter;
  for (std::int64_t b = examples.begin; b < examples.end; ++b) {
    T* const row = tile.logits + (b - examples.begin) * kPanel<T>;
    const auto remove = [&](std::int64_t key) {
      if (filter != nullptr) {
        const FilterBits bits(key, task.group.filter_bits);
        if (!FilterBits::test(filter, bits.first) || !FilterBits::test(filter, bits.second)) return;
      }
      if (!is_among(key, keys, sampled.size())) return;
      for (std::int64_t s = 0; s < sampled.size(); ++s) {
        if (keys[s] == key)
          row[s / kPanel<T> * tile.logits_panel + s % kPanel<T>] = __builtin_bit_cast(T, kRemovedBits<T>);
      }
    };
    if (removed.labels) {
      for (std::int64_t e = task.targets.begin(b); e < task.targets.begin(b + 1); ++e) {
        remove(removed.key(task.targets.ids[e]));
      }
    }
    if (removed.offsets == nullptr) continue;
    const std::int64_t list = task.row_of_batch(b);
    for (std::int64_t i = removed.offsets[list]; i < removed.offsets[list + 1]; ++i) remove(removed.ids[i]);
  }
}

// The first of positions[begin .. end), which ascend, that is at least `least`.
[[gnu::always_inline]] inline std::int64_t first_from(const std::int64_t* positions, std::int64_t begin,
                                                      std::int64_t end, std::int64_t least) {
  while (begin < end) {
    const std::int64_t middle = (begin + end) / 2;
    positions[middle] < least ? begin = middle + 1 : end = middle;
  }
  return begin;
}

template <class Tile, class T = typename Tile::Element>
void remove_hits(const LossTask<T>& task, Range examples, Range sampled, const Tile& tile) {
  const HitLists& hits = task.hits;
  for (std::int64_t b = examples.begin; b < examples.end; ++b) {
    T* const row = tile.logits + (b - examples.begin) * kPanel<T>;
    for (std::int64_t e = hits.first(b); e < hits.first(b + 1); ++e) {
      const std::int64_t group = hits.group[e];
      if (group < 0) continue;
      const std::int64_t end = hits.begin[group + 1];
      // An item of a whole batch, or a class that was drawn often, has thousands of positions.
      for (std::int64_t i = first_from(hits.positions, hits.begin[group], end, sampled.begin); i < end; ++i) {
        const std::int64_t s = hits.positions[i] - sampled.begin;
        if (s >= sampled.size()) break;
        row[s / kPanel<T> * tile.logits_panel + s % kPanel<T>] = __builtin_bit_cast(T, kRemovedBits<T>);
      }
    }
  }
}

// Overwrites the products of removed samples in one tile.
template <class Tile, class T = typename Tile::Element>
void remove_samples(const LossTask<T>& task, Range examples, Range sampled, const Tile& tile) {
  if (task.hits.group != nullptr) remove_hits(task, examples, sampled, tile);
  if (task.group.keys != nullptr) remove_from_group(task, examples, sampled, tile);
}
