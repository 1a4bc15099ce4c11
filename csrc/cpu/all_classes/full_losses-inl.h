// The losses over all classes, with the epilogues of the sampled ones. An example's labels are among its excluded
// classes, so that the sums and G hold the others; what the labels add to G is computed apart. Compiled once per
// instruction set; the rules are in simd-inl.h.

// Where the gradients of a tile's classes are added up: in the rows of the tables or, where those are narrower, here.
template <class Tile, class T = typename Tile::Element>
class ClassRows {
 public:
  T* dw[kMostTileSamples];
  T* db = nullptr;

  // `scratch` holds scratch_elements().
  ClassRows(const Sweep<T>& sweep, const ClassGradients<T>& grads, T* scratch)
      : sweep_(sweep),
        grads_(grads),
        own_db_(scratch),
        own_dw_(scratch + sweep_tile_sizes<Tile>(sweep.plane).samples) {}

  static std::int64_t scratch_elements(const PlaneShape& plane) {
    return sweep_tile_sizes<Tile>(plane).samples * (1 + plane.dim);
  }

  // Starts from zero or the strips before.
  void begin(Range classes) {
    const std::int64_t dim = sweep_.plane.dim;
    for (std::int64_t i = 0; i < classes.size() && grads_.weights != nullptr; ++i) {
      dw[i] = is_stored_as<T>(grads_.weights_dtype) ? static_cast<T*>(grads_.weights) + (classes.begin + i) * dim
                                                    : own_dw_ + i * dim;
      for (std::int64_t d = 0; d < dim && grads_.first_strip; ++d) dw[i][d] = T{0};
    }
    if (grads_.biases != nullptr) {
      db = is_stored_as<T>(grads_.biases_dtype) ? static_cast<T*>(grads_.biases) + classes.begin : own_db_;
      for (std::int64_t i = 0; i < classes.size() && grads_.first_strip; ++i) db[i] = T{0};
    }
  }

  void end(Range classes) {
    const std::int64_t dim = sweep_.plane.dim;
    if (grads_.weights != nullptr) round(classes, dim, own_dw_, grads_.weights, grads_.weights_dtype);
    if (grads_.biases != nullptr) round(classes, 1, own_db_, grads_.biases, grads_.biases_dtype);
  }

 private:
  static void round(Range classes, std::int64_t columns, const T* sums, void* table, DType dtype) {
    if (is_stored_as<T>(dtype)) return;
    narrow(sums, dtype, classes.size() * columns,
           static_cast<char*>(table) + classes.begin * columns * element_bytes(dtype));
  }

  const Sweep<T>& sweep_;
  const ClassGradients<T>& grads_;
  T* const own_db_;  // [tile.samples]
  T* const own_dw_;  // [tile.samples, D]
};

template <class Tile, class T = typename Tile::Element>
std::int64_t full_loss_scratch_elements(const PlaneShape& plane, DType weights_dtype) {
  return sweep_scratch_elements<Tile>(plane, weights_dtype) + ClassRows<Tile>::scratch_elements(plane);
}

template <class T>
void start_labels(const Sweep<T>& sweep, const ClassGradients<T>& grads) {
  const StripLabels& labels = grads.labels;
  start_cursors(sweep.examples, labels.offsets, labels.ids - labels.offsets[0], sweep.classes.begin, grads.cursor);
}

// Adds what the true classes do to G and, summed over the examples, to db.
template <class Tile, class T = typename Tile::Element>
void add_targets(const ClassGradients<T>& grads, Range part, Range classes, const Tile& tile, T* db) {
  const std::int64_t first = grads.labels.offsets[0];
  for (std::int64_t b = part.begin; b < part.end; ++b) {
    T* const row = tile.logits + (b - part.begin) * kPanel<T>;
    std::int64_t at = grads.cursor[b];
    for (; at < grads.labels.offsets[b + 1] && grads.labels.ids[at - first] < classes.end; ++at) {
      const std::int64_t s = grads.labels.ids[at - first] - classes.begin;
      const T g = grads.label_grads[at - first];
      row[s / kPanel<T> * tile.logits_panel + s % kPanel<T>] += g;
      if (db != nullptr) db[s] += g;
    }
    grads.cursor[b] = at;
  }
}

// dX += G W and dW += G^T X of one tile.
template <class Tile, class T = typename Tile::Element>
void add_products(const Sweep<T>& sweep, Range part, Range classes, const ClassGradients<T>& grads,
                  const ClassRows<Tile>& rows, Tile& tile) {
  add_targets(grads, part, classes, tile, rows.db);
  tile.enter_grad();
  if (grads.dx != nullptr) {
    T* dx[kMostTileExamples];
    for (std::int64_t b = 0; b < part.size(); ++b) dx[b] = grads.dx + (part.begin + b) * sweep.plane.dim;
    tile.add_grad_inputs(dx);
  }
  if (grads.weights != nullptr) tile.add_grad_weights(rows.dw);
}

// Maxima and sums of the exponentials, which stay in `strip` if it has memory for them. Biases stand in for the task's
// offsets of samples, and a tile's classes count from 0.
template <class Tile, class T = typename Tile::Element>
void exponentials_of_classes(const Sweep<T>& sweep, const LossTask<T>& task, const Strip<T>& strip, T* scratch) {
  LossTask<T> own = task;
  sweep_classes<Tile>(sweep, Packed::kForLogits, scratch, [&](Tile& tile, Range classes, std::int64_t slot, T* biases) {
    own.sampled_offset = biases;
    for_example_tiles(sweep, tile, [&](Range part, std::int64_t i) {
      const std::int64_t place = slot * strip.example_tiles + i;
      if (strip.exps != nullptr) tile.logits = strip.exps + place * tile.logits_elements;
      multiply_classes(sweep, part, classes, tile);
      T* const maxima = strip.exps != nullptr ? strip.maxima + place * tile.examples : nullptr;
      add_exponentials(own, part, {0, classes.size()}, tile, maxima);
    });
  });
}

template <class Tile, class T = typename Tile::Element>
void softmax_gradients_of_classes(const Sweep<T>& sweep, const LossTask<T>& task, const Strip<T>& strip,
                                  const ClassGradients<T>& grads, T* scratch) {
  LossTask<T> own = task;
  const bool again = strip.exps == nullptr;
  ClassRows<Tile> rows(sweep, grads, scratch + sweep_scratch_elements<Tile>(sweep.plane, sweep.weights.dtype));
  start_labels(sweep, grads);
  const Packed packed = again ? Packed::kForBoth : Packed::kForGradients;
  sweep_classes<Tile>(sweep, packed, scratch, [&](Tile& tile, Range classes, std::int64_t slot, T* biases) {
    own.sampled_offset = biases;
    rows.begin(classes);
    const Range samples{0, classes.size()};
    for_example_tiles(sweep, tile, [&](Range part, std::int64_t i) {
      if (again) {
        multiply_classes(sweep, part, classes, tile);
        scale_exponentials<true, Tile, T>(own, part, samples, tile, nullptr, rows.db);
      } else {
        const std::int64_t place = slot * strip.example_tiles + i;
        tile.logits = strip.exps + place * tile.logits_elements;
        scale_exponentials<false, Tile, T>(own, part, samples, tile, strip.maxima + place * tile.examples, rows.db);
      }
      add_products(sweep, part, classes, grads, rows, tile);
    });
    if (grads.weights != nullptr) tile.leave_samples(rows.dw);
    rows.end(classes);
  });
}

template <class Tile, class T = typename Tile::Element>
void sigmoid_of_classes(const Sweep<T>& sweep, const LossTask<T>& task, const ClassGradients<T>& grads, T* scratch) {
  LossTask<T> own = task;
  ClassRows<Tile> rows(sweep, grads, scratch + sweep_scratch_elements<Tile>(sweep.plane, sweep.weights.dtype));
  const bool wants_gradients = grads.dx != nullptr || grads.weights != nullptr || grads.biases != nullptr;
  if (wants_gradients) start_labels(sweep, grads);
  const Packed packed = wants_gradients ? Packed::kForBoth : Packed::kForLogits;
  sweep_classes<Tile>(sweep, packed, scratch, [&](Tile& tile, Range classes, std::int64_t, T* biases) {
    own.sampled_offset = biases;
    if (wants_gradients) rows.begin(classes);
    const Range samples{0, classes.size()};
    for_example_tiles(sweep, tile, [&](Range part, std::int64_t) {
      multiply_classes(sweep, part, classes, tile);
      if (!wants_gradients) return apply_logistic<true, false>(own, part, samples, tile, static_cast<T*>(nullptr));
      apply_logistic<true, true>(own, part, samples, tile, rows.db);
      add_products(sweep, part, classes, grads, rows, tile);
    });
    if (!wants_gradients) return;
    if (grads.weights != nullptr) tile.leave_samples(rows.dw);
    rows.end(classes);
  });
}
