// dX = G W, for a chunk of examples.
#include "cuda/gemm/product.cuh"

namespace fastnce::cuda {

void queue_grad_inputs(const ProductArguments& args, const Geometry& g, Parts parts, const Stream& stream) {
  queue_product<Contiguous::kReduced>(args, g, g.chunk_tiles(), g.input_splits, parts, stream);
}

}  // namespace fastnce::cuda
