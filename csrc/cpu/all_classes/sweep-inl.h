// Passes over all classes of one thread: tiles of classes, packed once, against the tiles of a strip's examples, which
// are packed once for all threads. Compiled once per instruction set; the rules are in simd-inl.h.

// What a pass takes of its scratch beside the tile: rows of classes that are not stored as T, and biases.
template <class Tile, class T = typename Tile::Element>
struct SweepScratch {
  T* widened;  // [tile.samples, D]
  T* biases;   // [tile.samples and up to a panel more]
  std::int64_t elements;

  SweepScratch(const PlaneShape& plane, DType weights_dtype, const Tile& tile, T* scratch) {
    const std::int64_t widened_elements = is_stored_as<T>(weights_dtype) ? 0 : tile.samples * plane.dim;
    elements = tile.scratch_elements + widened_elements + panels<T>(tile.samples) * kPanel<T>;
    if (scratch == nullptr) return;
    widened = scratch + tile.scratch_elements;
    biases = widened + widened_elements;
  }
};

template <class Tile, class T = typename Tile::Element>
std::int64_t sweep_scratch_elements(const PlaneShape& plane, DType weights_dtype) {
  const Tile tile(plane, nullptr);
  return SweepScratch<Tile>(plane, weights_dtype, tile, nullptr).elements;
}

template <class Tile>
TileSizes sweep_tile_sizes(const PlaneShape& plane) {
  const Tile tile(plane, nullptr);
  return {tile.examples, tile.samples, tile.x_elements, tile.logits_elements};
}

template <class T>
T bias_of(const TableView& biases, std::int64_t id) {
  if (biases.num_shards == 0) return T{0};
  T value{};
  return *row_of<T>(biases, id, 1, &value);
}

// Packs tiles of the strip's examples.
template <class Tile, class T = typename Tile::Element>
void pack_examples(const Sweep<T>& sweep, Range tiles, T* scratch) {
  Tile tile(sweep.plane, scratch);
  const std::int64_t step = even_part(sweep.examples, tile.examples);
  for (std::int64_t i = tiles.begin; i < tiles.end; ++i) {
    const std::int64_t begin = i * step;
    const std::int64_t count = begin + step < sweep.examples ? step : sweep.examples - begin;
    if (count <= 0) return;
    tile.use_examples(sweep.packed_x + i * tile.x_elements, count);
    tile.enter_examples(sweep.x_rows + begin, count);
  }
}

// Puts each cursor before the first id of a thread's classes, in ascending lists. `ids` begins where the lists do.
void start_cursors(std::int64_t examples, const std::int64_t* offsets, const std::int64_t* ids,
                   std::int64_t first_class, std::int64_t* cursors) {
  for (std::int64_t b = 0; b < examples; ++b) {
    std::int64_t low = offsets[b], high = offsets[b + 1];
    while (low < high) {
      const std::int64_t middle = (low + high) / 2;
      ids[middle] < first_class ? low = middle + 1 : high = middle;
    }
    cursors[b] = low;
  }
}

// Overwrites the products of excluded classes with removed hits. Each example meets its classes in ascending order.
template <class Tile, class T = typename Tile::Element>
void remove_excluded(const Sweep<T>& sweep, Range examples, Range classes, const Tile& tile) {
  for (std::int64_t b = examples.begin; b < examples.end; ++b) {
    T* const row = tile.logits + (b - examples.begin) * kPanel<T>;
    std::int64_t at = sweep.cursor[b];
    for (; at < sweep.excluded.offsets[b + 1] && sweep.excluded.ids[at] < classes.end; ++at) {
      const std::int64_t s = sweep.excluded.ids[at] - classes.begin;
      row[s / kPanel<T> * tile.logits_panel + s % kPanel<T>] = __builtin_bit_cast(T, kRemovedBits<T>);
    }
    sweep.cursor[b] = at;
  }
}

// The products of one tile; those of excluded classes are removed hits.
template <class Tile, class T = typename Tile::Element>
void multiply_classes(const Sweep<T>& sweep, Range examples, Range classes, Tile& tile) {
  tile.multiply_logits();
  if (sweep.excluded.offsets != nullptr) remove_excluded(sweep, examples, classes, tile);
}

// Calls work(tile, classes, slot, biases) for each tile of classes, packed; its number is `slot`. `biases` are followed
// by NaN up to a whole panel: no score of classes that are not there compares as higher or equal.
template <class Tile, class Work, class T = typename Tile::Element>
[[gnu::always_inline]] inline void sweep_classes(const Sweep<T>& sweep, Packed packed, T* scratch, const Work& work) {
  Tile tile(sweep.plane, scratch);
  const SweepScratch<Tile> own(sweep.plane, sweep.weights.dtype, tile, scratch);
  const std::int64_t step = even_part(sweep.classes.size(), tile.samples);
  if (sweep.excluded.offsets != nullptr) {
    start_cursors(sweep.examples, sweep.excluded.offsets, sweep.excluded.ids, sweep.classes.begin, sweep.cursor);
  }
  const T* rows[kMostTileSamples];
  for (std::int64_t begin = sweep.classes.begin, slot = 0; begin < sweep.classes.end; begin += step, ++slot) {
    const Range classes{begin, begin + step < sweep.classes.end ? begin + step : sweep.classes.end};
    for (std::int64_t i = 0; i < classes.size(); ++i) {
      rows[i] = row_of(sweep.weights, begin + i, sweep.plane.dim, own.widened + i * sweep.plane.dim);
      own.biases[i] = bias_of<T>(sweep.biases, begin + i);
    }
    for (std::int64_t i = classes.size(); i % kPanel<T> != 0; ++i) own.biases[i] = static_cast<T>(__builtin_nan(""));
    tile.enter_samples(rows, classes.size(), packed);
    work(tile, classes, slot, own.biases);
    if (sweep.interruption->requested()) return;
    if (sweep.progress != nullptr) sweep.progress->advance(classes.size());
  }
}

// Calls work(part, i) for tile i of the strip's examples, which `tile` then uses.
template <class Tile, class Work, class T = typename Tile::Element>
[[gnu::always_inline]] inline void for_example_tiles(const Sweep<T>& sweep, Tile& tile, const Work& work) {
  const std::int64_t step = even_part(sweep.examples, tile.examples);
  for (std::int64_t b = 0, i = 0; b < sweep.examples; b += step, ++i) {
    if (sweep.interruption->requested()) return;
    const Range part{b, b + step < sweep.examples ? b + step : sweep.examples};
    tile.use_examples(sweep.packed_x + i * tile.x_elements, part.size());
    work(part, i);
  }
}

// The scores of true classes, from the same products as those of all classes: equal rows give equal bits. A few
// examples at a time, of whose products with each other's labels most are thrown away.
template <class Tile, class T = typename Tile::Element>
void label_scores(const Sweep<T>& sweep, const StripLabels& labels, Range examples, T* scores, T* scratch) {
  constexpr std::int64_t kAtOnce = 16;
  Tile tile(sweep.plane, scratch);
  const SweepScratch<Tile> own(sweep.plane, sweep.weights.dtype, tile, scratch);
  const std::int64_t step = clamp(tile.examples, 1, kAtOnce);
  const std::int64_t first = labels.offsets[0];
  const T* rows[kMostTileSamples];
  for (std::int64_t begin = examples.begin; begin < examples.end; begin += step) {
    if (sweep.interruption->requested()) return;
    const std::int64_t end = begin + step < examples.end ? begin + step : examples.end;
    tile.enter_examples(sweep.x_rows + begin, end - begin);
    const std::int64_t last = labels.offsets[end];
    std::int64_t b = begin;
    for (std::int64_t e = labels.offsets[begin]; e < last; e += tile.samples) {
      const std::int64_t count = clamp(last - e, 0, tile.samples);
      for (std::int64_t i = 0; i < count; ++i) {
        rows[i] = row_of(sweep.weights, labels.ids[e - first + i], sweep.plane.dim, own.widened + i * sweep.plane.dim);
      }
      tile.enter_samples(rows, count, Packed::kForLogits);
      tile.multiply_logits();
      for (std::int64_t i = 0; i < count; ++i) {
        while (e + i >= labels.offsets[b + 1]) ++b;
        const T product = tile.logits[i / kPanel<T> * tile.logits_panel + (b - begin) * kPanel<T> + i % kPanel<T>];
        scores[e - first + i] = product + bias_of<T>(sweep.biases, labels.ids[e - first + i]);
      }
    }
  }
}
