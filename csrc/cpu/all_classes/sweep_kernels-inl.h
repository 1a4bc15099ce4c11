// The kernels of one way of multiplying (SweepKernels in sweep_kernels.h). Compiled once per instruction set; the rules
// are in simd-inl.h.

template <class Tile>
constexpr SweepKernels<typename Tile::Element> kSweepKernels = {
    .sizes = sweep_tile_sizes<Tile>,
    .scratch_elements = sweep_scratch_elements<Tile>,
    .full_loss_scratch_elements = full_loss_scratch_elements<Tile>,
    .pack_examples = pack_examples<Tile>,
    .label_scores = label_scores<Tile>,
    .top_k = top_k_of_classes<Tile>,
    .ranks = ranks_of_classes<Tile>,
    .exponentials = exponentials_of_classes<Tile>,
    .softmax_gradients = softmax_gradients_of_classes<Tile>,
    .sigmoid = sigmoid_of_classes<Tile>,
};
