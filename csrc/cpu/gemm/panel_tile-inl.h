// A tile whose GEMMs run in full precision, on panels (panels-inl.h).
// Compiled once per instruction set; the rules are in simd-inl.h.

// Packed X of some examples and W of some samples, in the layouts that the three GEMMs need.
//
// One block of samples stays packed while all examples stream past it. Each step reads W, W^T and dW (samples x D
// each), which stay in the cache, and X and dX (examples x D), which stream. Adding a finished chunk of dW to memory
// costs some 60 cycles, computing it 11 per example; the same holds for dX and samples. So 128 by 128 is large enough:
// more samples only save some packing of X. The resident arrays may take three eighths of the L2 cache and the streamed
// ones a quarter, because the core's other hardware thread, perhaps another user's, shares it.
template <class T>
class PanelTile {
 public:
  using Element = T;

  PanelTile(const PlaneShape& plane, T* scratch) : dim_(plane.dim), needs_w_rows_(plane.grad_inputs) {
    const std::int64_t fitting = plane.l2_bytes / 8 / ((dim_ + 1) * static_cast<std::int64_t>(sizeof(T)));
    examples = clamp(plane.batch, 1, clamp(fitting, 64, 128));
    samples = clamp(plane.num_sampled, 1, clamp(fitting / kPanel<T> * kPanel<T>, 128, 256));
    x_panel_ = padded_rows(examples) * kPanel<T>;
    w_panel_ = padded_rows(samples) * kPanel<T>;
    logits_panel = x_panel_;
    std::int64_t used = 0;
    const auto take = [&](std::int64_t elements) {
      used += elements;
      return scratch == nullptr ? nullptr : scratch + used - elements;
    };
    x_elements = panels<T>(dim_) * x_panel_;
    x_ = take(x_elements);
    w_ = take(needs_w_rows_ ? panels<T>(dim_) * w_panel_ : 0);
    w_transposed_ = take(panels<T>(samples) * dim_ * kPanel<T>);
    logits_elements = panels<T>(samples) * logits_panel;
    logits = take(logits_elements);
    loss_lanes = take(examples * kLanes<T>);
    scratch_elements = used;
  }

  std::int64_t examples, samples;  // size of a whole tile
  std::int64_t scratch_elements;
  T* logits;                                 // panels [samples] of rows [examples]: X W^T, then G
  std::int64_t logits_panel;                 // elements from one panel to the next
  T* loss_lanes;                             // [examples, kLanes]
  std::int64_t x_elements, logits_elements;  // of packed X and of the logits

  void enter_samples(const T* const* w_rows, std::int64_t count, Packed packed) {
    num_samples_ = count;
    if (packed != Packed::kForGradients) pack_transposed(w_rows, count, dim_, w_transposed_);
    if (packed != Packed::kForLogits && needs_w_rows_) pack_rows(w_rows, count, dim_, w_, w_panel_);
  }

  // Packed X is, or will be, at `memory` (x_elements), in place of the tile's own.
  void use_examples(T* memory, std::int64_t count) {
    x_ = memory;
    num_examples_ = count;
  }

  void enter_examples(const T* const* x_rows, std::int64_t count) {
    num_examples_ = count;
    pack_rows(x_rows, count, dim_, x_, x_panel_);
  }

  void multiply_logits() {
    T* rows[kMostTileExamples];
    for (std::int64_t b = 0; b < num_examples_; ++b) rows[b] = logits + b * kPanel<T>;
    multiply<T, ByRows<T>, Write::kSet>({.rows = num_examples_,
                                         .cols = num_samples_,
                                         .depth = dim_,
                                         .a = x_,
                                         .a_panel_stride = x_panel_,
                                         .a_panel_depth = kPanel<T>,
                                         .b = w_transposed_,
                                         .b_panel_stride = dim_ * kPanel<T>,
                                         .c = rows,
                                         .c_panel_stride = logits_panel});
  }

  void enter_grad() {}  // G is used as the loss left it

  void add_grad_inputs(T* const* dx_rows) {
    multiply<T, ByRows<T>, Write::kAdd>({.rows = num_examples_,
                                         .cols = dim_,
                                         .depth = num_samples_,
                                         .a = logits,
                                         .a_panel_stride = logits_panel,
                                         .a_panel_depth = kPanel<T>,
                                         .b = w_,
                                         .b_panel_stride = w_panel_,
                                         .c = dx_rows,
                                         .c_panel_stride = kPanel<T>});
  }

  // A panel of G at a time: a chunk of its columns must not reach into the next.
  void add_grad_weights(T* const* dw_rows) {
    for (std::int64_t s = 0; s < num_samples_; s += kPanel<T>) {
      multiply<T, ByColumns<T>, Write::kAdd>({.rows = clamp(num_samples_ - s, 1, kPanel<T>),
                                              .cols = dim_,
                                              .depth = num_examples_,
                                              .a = logits + s / kPanel<T> * logits_panel,
                                              .a_panel_stride = logits_panel,
                                              .a_panel_depth = num_examples_,
                                              .b = x_,
                                              .b_panel_stride = x_panel_,
                                              .c = dw_rows + s,
                                              .c_panel_stride = kPanel<T>});
    }
  }

  void leave_samples(T* const*) {}  // dW has gone to its rows

 private:
  std::int64_t dim_;
  bool needs_w_rows_;
  std::int64_t x_panel_, w_panel_;  // elements per panel
  T* x_;                            // panels of X
  T* w_;                            // panels of W
  T* w_transposed_;                 // panels of W transposed
  std::int64_t num_examples_ = 0, num_samples_ = 0;
};
