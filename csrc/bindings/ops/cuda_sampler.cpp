// Candidate samplers on a CUDA device.
#include "bindings/arrays/without_gil.h"
#include "bindings/ops/cuda.h"
#include "bindings/ops/cuda_call.h"
#include "fastnce/cuda.h"

namespace fastnce::bindings {

py::tuple cuda_candidates(py::handle true_classes, std::int64_t num_true, const SamplerParams& params,
                          py::handle num_groups, std::uintptr_t calls, py::handle device) {
  const cuda::Stream stream = stream_of(device);
  CudaCall gpu(device, stream);
  Array classes = borrow_or_convert(true_classes, "true_classes", place_on(stream, "true_classes"));
  require_classes(classes, -1, num_true);
  SampleRequest request{.sources = {&params, 1}, .batch = classes.shape[0], .true_classes = {}};
  std::vector<std::int64_t> shape{params.num_sampled};
  if (!num_groups.is_none()) {
    request.groups = integer(num_groups, "num_groups");
    shape.insert(shape.begin(), request.groups);
  }
  const std::size_t bytes = cuda::workspace_bytes(request);
  request.true_classes = {gpu.ids(std::move(classes), num_true), static_cast<std::size_t>(request.batch * num_true)};
  const CudaCall::Output ids = gpu.empty("int64", shape);
  const CudaCall::Output true_count = gpu.empty(DType::kFloat32, {request.batch, num_true});
  const CudaCall::Output sampled_count = gpu.empty(DType::kFloat32, shape);
  const cuda::Workspace workspace = gpu.workspace(bytes);
  {
    const WithoutGil released;  // safe: whatever is borrowed or made is held here
    cuda::sample(request, reinterpret_cast<std::uint64_t*>(calls),
                 {.sampled = static_cast<std::int64_t*>(ids.data),
                  .sampled_count = static_cast<float*>(sampled_count.data),
                  .true_count = static_cast<float*>(true_count.data)},
                 workspace, stream);
  }
  gpu.finish();
  return py::make_tuple(ids.array, true_count.array, sampled_count.array);
}

}  // namespace fastnce::bindings
