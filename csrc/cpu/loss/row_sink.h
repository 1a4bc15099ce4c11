// What becomes of the gradient rows of a call once they are complete.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "cpu/loss/loss_kernels.h"
#include "cpu/runtime/parallel.h"
#include "fastnce/loss.h"

namespace fastnce::cpu {

// Where a call adds up its rows, in the compute dtype; null: not wanted.
template <class T>
struct RowSums {
  const T* weights;  // [n, D]
  const T* biases;   // [n]
};

// A call hands over each row once, in ranges and from any thread, while the range is still in the cache. A call that is
// interrupted has handed over some of its rows.
template <class T>
class RowSink {
 public:
  virtual void take(Range rows, const RowSums<T>& sums) const = 0;

 protected:
  ~RowSink() = default;
};

// Stores the rows in the caller's arrays. Where those have the compute dtype, they are where the sums are.
template <class T>
class StoredRows final : public RowSink<T> {
 public:
  StoredRows(const LossKernels<T>& kernels, const LossRequest& request, const LossOutputs& outputs)
      : kernels_(kernels), outputs_(outputs), dim_(request.dim) {}

  void take(Range rows, const RowSums<T>& sums) const override {
    round(rows, sums.weights, outputs_.grad_weights_dtype, dim_, outputs_.grad_weights);
    round(rows, sums.biases, outputs_.grad_biases_dtype, 1, outputs_.grad_biases);
  }

 private:
  void round(Range rows, const T* sums, std::optional<DType> dtype, std::int64_t columns, void* to) const {
    if (sums == nullptr || sums == to) return;
    kernels_.narrow(sums + rows.begin * columns, *dtype, rows.size() * columns,
                    static_cast<std::byte*>(to) + rows.begin * columns * element_bytes(*dtype));
  }

  const LossKernels<T>& kernels_;
  const LossOutputs& outputs_;
  const std::int64_t dim_;
};

}  // namespace fastnce::cpu
