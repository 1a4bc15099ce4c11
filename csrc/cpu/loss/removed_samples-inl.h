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

// A Bloom filter of the samples of a group: two bits for each. Of other classes both are set for one in 256 or more.
class Filter {
 public:
  [[gnu::always_inline]] Filter(std::uint64_t* words, int log2_size)
      : words_(words), shift_(64 - log2_size), mask_((std::uint64_t{1} << log2_size) - 1) {}

  void fill(const std::int64_t* keys, std::int64_t count) const {
    for (std::uint64_t i = 0; i <= mask_ / 64; ++i) words_[i] = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::uint64_t product = spread(keys[i]), first = product >> shift_, second = product >> 20 & mask_;
      words_[first / 64] |= std::uint64_t{1} << (first % 64);
      words_[second / 64] |= std::uint64_t{1} << (second % 64);
    }
  }
  [[gnu::always_inline]] bool may_hold(std::int64_t key) const {
    const std::uint64_t product = spread(key), first = product >> shift_, second = product >> 20 & mask_;
    return (words_[first / 64] >> (first % 64) & words_[second / 64] >> (second % 64) & 1) != 0;
  }

 private:
  // Multiplicative hashing: the top bits depend on all bits of the key, those from bit 20 on nearly so.
  [[gnu::always_inline]] static std::uint64_t spread(std::int64_t key) {
    const auto bits = static_cast<std::uint64_t>(key);
    return (bits ^ bits >> 32) * 0x9E3779B97F4A7C15u;  // 2^64 / golden ratio
  }

  std::uint64_t* words_;
  int shift_;
  std::uint64_t mask_;
};

void fill_filter(const std::int64_t* keys, std::int64_t count, std::uint64_t* filter, int log2_size) {
  Filter(filter, log2_size).fill(keys, count);
}

// Overwrites the products of the group's samples in the tile that one example removes.
template <class Tile, class T = typename Tile::Element>
class GroupRemoval {
 public:
  [[gnu::always_inline]] GroupRemoval(const LossTask<T>& task, Range sampled, const Tile& tile)
      : keys_(task.group.keys + sampled.begin),
        count_(sampled.size()),
        panel_(tile.logits_panel),
        filter_(task.group.filter, task.group.filter_bits),
        filtered_(task.group.filter != nullptr) {}

  // key(i) for i in [begin, end) are the classes to be removed, `row` the example's products.
  template <class Key>
  [[gnu::always_inline]] void remove(std::int64_t begin, std::int64_t end, const Key& key, T* row) const {
    if (filtered_) {
      for (std::int64_t i = begin; i < end; ++i) {
        if (filter_.may_hold(key(i))) [[unlikely]]
          mark(key(i), row);
      }
    } else {
      for (std::int64_t i = begin; i < end; ++i) mark(key(i), row);
    }
  }

 private:
  [[gnu::noinline]] void mark(std::int64_t key, T* row) const {
    if (!is_among(key, keys_, count_)) return;
    for (std::int64_t s = 0; s < count_; ++s) {
      if (keys_[s] == key) row[s / kPanel<T> * panel_ + s % kPanel<T>] = __builtin_bit_cast(T, kRemovedBits<T>);
    }
  }

  const std::int64_t* const keys_;
  const std::int64_t count_, panel_;
  const Filter filter_;
  const bool filtered_;
};

template <class Tile, class T = typename Tile::Element>
void remove_from_group(const LossTask<T>& task, Range examples, Range sampled, const Tile& tile) {
  const RemovedClasses& removed = task.removed;
  const GroupRemoval<Tile> group(task, sampled, tile);
  for (std::int64_t b = examples.begin; b < examples.end; ++b) {
    T* const row = tile.logits + (b - examples.begin) * kPanel<T>;
    if (removed.labels) {
      group.remove(
          task.targets.begin(b), task.targets.begin(b + 1),
          [&](std::int64_t e) { return removed.key(task.targets.ids[e]); }, row);
    }
    if (removed.offsets == nullptr) continue;
    const std::int64_t list = task.row_of_batch(b);
    const std::int64_t* const ids = removed.ids;
    group.remove(removed.offsets[list], removed.offsets[list + 1], [ids](std::int64_t i) { return ids[i]; }, row);
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
