// What evaluation makes of the scores of a tile: the best classes, and ranks of labels. Compiled once per instruction
// set; the rules are in simd-inl.h.

// Calls use(product, at) for the vectors of one example's products, `at` counting classes in the tile.
template <class Tile, class Use, class T = typename Tile::Element>
[[gnu::always_inline]] inline void for_each_vector(const Tile& tile, std::int64_t example, std::int64_t classes,
                                                   const Use& use) {
  const T* row = tile.logits + example * kPanel<T>;
  for (std::int64_t s = 0; s < classes; s += kPanel<T>, row += tile.logits_panel) {
    use(load(row), s);
    use(load(row + kLanes<T>), s + kLanes<T>);
  }
}

// Adds the classes of a tile to one example's candidates. Until there are k, all but NaN; then what scores higher than
// the k-th: classes come in ascending order, so that ties keep the lower id.
template <class Tile, class T = typename Tile::Element>
void add_candidates(const TopKLists<T>& lists, std::int64_t example, std::int64_t in_tile, Range classes,
                    const Tile& tile, const T* biases) {
  ScoredClass<T>* const candidates = lists.candidates + example * lists.capacity;
  std::int64_t count = lists.counts[example];
  T least = lists.least[example];
  for_each_vector(tile, in_tile, classes.size(), [&](Vec<T> product, std::int64_t s) {
    const Vec<T> scores = product + load(biases + s);
    if (count >= lists.k && !(largest_of_lanes<T>(larger<T>(scores, broadcast(least))) > least)) return;
    T lanes[kLanes<T>];
    store(lanes, scores);
    for (std::int64_t i = 0; i < kLanes<T>; ++i) {
      if (!(lanes[i] > least) && (count >= lists.k || lanes[i] != lanes[i])) continue;
      candidates[count++] = {lanes[i], classes.begin + s + i};
      if (count < lists.capacity) continue;
      least = keep_best(candidates, count, lists.k);
      count = lists.k;
    }
  });
  // Early, while that is cheap: the higher the least score, the fewer tiles are looked at.
  if (count > lists.k + lists.k / 2) {
    least = keep_best(candidates, count, lists.k);
    count = lists.k;
  }
  lists.counts[example] = count;
  lists.least[example] = least;
}

template <class Tile, class T = typename Tile::Element>
void top_k_of_classes(const Sweep<T>& sweep, const TopKLists<T>& lists, T* scratch) {
  sweep_classes<Tile>(sweep, Packed::kForLogits, scratch, [&](Tile& tile, Range classes, std::int64_t, T* biases) {
    for_example_tiles(sweep, tile, [&](Range part, std::int64_t) {
      multiply_classes(sweep, part, classes, tile);
      for (std::int64_t b = part.begin; b < part.end; ++b) {
        const std::int64_t in_tile = b - part.begin;
        if (lists.counts[b] >= lists.k) {
          const T least = lists.least[b];
          Vec<T> best = broadcast(least);
          for_each_vector(tile, in_tile, classes.size(),
                          [&](Vec<T> product, std::int64_t s) { best = larger<T>(product + load(biases + s), best); });
          if (!(largest_of_lanes<T>(best) > least)) continue;
        }
        add_candidates(lists, b, in_tile, classes, tile, biases);
      }
    });
  });
}

template <class T>
[[gnu::always_inline]] inline std::int64_t sum_of_counts(VecBits<T> counts) {
  std::int64_t sum = 0;
  for (int i = 0; i < kLanes<T>; ++i) sum += counts[i];
  return sum;
}

template <class Tile, class T = typename Tile::Element>
void ranks_of_classes(const Sweep<T>& sweep, const RankCounts<T>& ranks, T* scratch) {
  const std::int64_t first = ranks.labels.offsets[0];
  sweep_classes<Tile>(sweep, Packed::kForLogits, scratch, [&](Tile& tile, Range classes, std::int64_t, T* biases) {
    for_example_tiles(sweep, tile, [&](Range part, std::int64_t) {
      multiply_classes(sweep, part, classes, tile);
      for (std::int64_t b = part.begin; b < part.end; ++b) {
        for (std::int64_t e = ranks.labels.offsets[b]; e < ranks.labels.offsets[b + 1]; ++e) {
          const Vec<T> label = broadcast(ranks.scores[e - first]);
          VecBits<T> higher{}, no_lower{};
          for_each_vector(tile, b - part.begin, classes.size(), [&](Vec<T> product, std::int64_t s) {
            const Vec<T> scores = product + load(biases + s);
            higher -= scores > label;
            no_lower -= scores >= label;
          });
          ranks.counts[e - first] += sum_of_counts<T>(higher + no_lower);
        }
      }
    });
  });
}
