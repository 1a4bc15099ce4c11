// dW = G^T X, summed over the chunks.
#include "cuda/gemm/product.cuh"

namespace fastnce::cuda {

void queue_grad_weights(const ProductArguments& args, const Geometry& g, Parts parts, const Stream& stream) {
  queue_product<Contiguous::kOuter>(args, g, g.sample_tiles(), g.weight_splits, parts, stream);
}

}  // namespace fastnce::cuda
