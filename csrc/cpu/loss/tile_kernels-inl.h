// The kernels of one way of multiplying (TileKernels in loss_kernels.h). Compiled once per instruction set; the rules
// are in simd-inl.h.

template <class Tile, class T = typename Tile::Element>
std::int64_t block_scratch_elements(const LossTask<T>& task) {
  const Tile tile(task.plane(), nullptr);
  return tile.scratch_elements + (is_stored_as<T>(task.weights.dtype) ? 0 : tile.samples * task.dim);
}

template <class Tile, class T = typename Tile::Element>
TileSizes tile_sizes(const LossTask<T>& task) {
  const Tile tile(task.plane(), nullptr);
  return {tile.examples, tile.samples, tile.x_elements, tile.logits_elements};
}

template <class Tile>
constexpr TileKernels<typename Tile::Element> kTileKernels = {
    .scratch_elements = block_scratch_elements<Tile>,
    .sizes = tile_sizes<Tile>,
    .logistic_block = logistic_block<Tile>,
    .logits_of_block = logits_of_block<Tile>,
    .gradients_of_block = gradients_of_block<Tile>,
};
