// The best classes and ranks of labels for JAX.
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "bindings/jax/jax_request.h"
#include "fastnce/evaluate.h"

namespace fastnce::bindings::jax {

namespace {

void best_classes(const xla::CallFrame& frame) {
  const Call call(frame, RequestCall::kOperands, 2);
  RequestCall arguments(call);
  const HostRequest host(arguments);
  const LossRequest& request = arguments.request;
  const Buffer scores = call.result(0), ids = call.result(1);  // [B, k] both
  const std::int64_t k = scores.dimension(1);
  require_extent(scores, "scores", arguments.batch() * static_cast<std::size_t>(k), request.dtype);
  if (ids.bytes() != scores.elements() * sizeof(std::int64_t)) {
    throw InvalidValue(
        concat("ids have ", ids.bytes(), " bytes: expected ", scores.elements(), " 64-bit words, one for each score"));
  }
  top_k(request, k, request.exclude, scores.wanted(), id_words(ids));
}

// Ranks in the shape of the labels; NaN of what follows the last list. Without jax_enable_x64 JAX has no float64: then
// they are float32, which is exact up to 2^23.
void ranks(const xla::CallFrame& frame) {
  const Call call(frame, RequestCall::kOperands, 1);
  RequestCall arguments(call);
  const HostRequest host(arguments);
  const LossRequest& request = arguments.request;
  const Buffer result = call.result(0);
  const std::size_t count = arguments.labels.elements();
  const bool wide = dtype_of(result) == DType::kFloat64;
  require_extent(result, "ranks", count, wide ? DType::kFloat64 : DType::kFloat32);
  std::vector<double> computed(count, std::numeric_limits<double>::quiet_NaN());
  rank_of_labels(request, request.targets, request.exclude, computed.data());
  const auto write = [&]<class T>(T* to) {
    for (const double rank : computed) *to++ = static_cast<T>(rank);
  };
  wide ? write(static_cast<double*>(result.data())) : write(static_cast<float*>(result.data()));
}

}  // namespace

xla::Handler* const kTopKOnCpu = kOnCpu<best_classes>;
xla::Handler* const kRanksOnCpu = kOnCpu<ranks>;

}  // namespace fastnce::bindings::jax
