// What becomes of the gradient rows of a call once they are complete: sinks, to which a call hands each row once, in
// ranges and from any thread, while the range is still in the cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "cpu/loss/loss_kernels.h"
#include "cpu/rows/update_rows.h"
#include "cpu/runtime/parallel.h"
#include "fastnce/loss.h"

namespace fastnce::cpu {

// Some of the rows, in the compute dtype.
template <class T>
struct CompleteRows {
  Range rows;
  const T* weights;  // [rows, D]; null: not wanted
  const T* biases;   // [rows]
};

// Stores the rows in the caller's arrays. Where those have the compute dtype, they are where the sums are. A call that
// is interrupted has stored some of its rows.
template <class T>
class StoredRows {
 public:
  StoredRows(const LossKernels<T>& kernels, const LossRequest& request, const LossOutputs& outputs)
      : kernels_(kernels), outputs_(outputs), dtype_(request.dtype), dim_(request.dim) {}

  void take(const CompleteRows<T>& complete) const {
    round(complete.rows, complete.weights, outputs_.grad_weights_dtype, dim_, outputs_.grad_weights);
    round(complete.rows, complete.biases, outputs_.grad_biases_dtype, 1, outputs_.grad_biases);
  }

 private:
  void round(Range rows, const T* sums, std::optional<DType> dtype, std::int64_t columns, void* to) const {
    if (sums == nullptr) return;
    const DType stored = dtype.value_or(dtype_);
    void* const place = static_cast<std::byte*>(to) + rows.begin * columns * element_bytes(stored);
    if (sums != place) kernels_.narrow(sums, stored, rows.size() * columns, place);
  }

  const LossKernels<T>& kernels_;
  const LossOutputs& outputs_;
  const DType dtype_;
  const std::int64_t dim_;
};

// Lets an optimizer update the rows of the tables. `scratch`, of D elements, is the thread's.
template <class T>
class UpdatedRows {
 public:
  UpdatedRows(const RowUpdate& update, const LossRequest& request, const RowPlan& plan)
      : kernels_(update_kernels<T>(current_isa())),
        weights_(updated_weights<T>(update, request)),
        biases_(updated_biases<T>(update, request)),
        ids_(plan.ids.data()) {}

  void take(const CompleteRows<T>& complete, T* scratch) const {
    const std::int64_t* const ids = ids_ + complete.rows.begin;
    const std::int64_t count = complete.rows.size();
    if (complete.weights != nullptr) kernels_.update(weights_, ids, count, complete.weights, scratch);
    if (complete.biases != nullptr) kernels_.update(biases_, ids, count, complete.biases, scratch);
  }

 private:
  const UpdateKernels<T>& kernels_;
  const UpdatedTable<T> weights_, biases_;
  const std::int64_t* const ids_;
};

}  // namespace fastnce::cpu
