// Arguments of the sampled losses that are the same on every device.
#pragma once

#include <array>
#include <deque>
#include <string>
#include <vector>

#include "bindings/array.h"
#include "fastnce/sampled_loss.h"
#include "fastnce/sampler.h"

namespace fastnce::bindings {

// As Python passes them.
struct LossArguments {
  py::handle weights, biases, labels, num_sampled, num_classes, num_true, sampled_values, remove_accidental_hits,
      partition_strategy, precision, grad_loss, grad_dtype;
  bool pad_rows;
  // Of the candidates where none are given: the key of the stream and the number of the call, on a CUDA device counted
  // in its memory at the address `calls`.
  std::uint64_t seed, seed2, call;
  std::uintptr_t calls;
  // Which gradients are requested.
  bool grad_inputs, grad_weights, grad_biases;

  bool row_gradients() const { return grad_weights || grad_biases; }
};

// A class table as passed: one array, or a list or tuple of shards. Owns what a Table points to.
class TableArgument {
 public:
  // `columns` < 0: a [V] table (biases).
  TableArgument(py::handle object, const char* name, const Array& inputs, std::int64_t columns, const Place& place);
  TableArgument(const TableArgument&) = delete;
  Table table(Partition partition) const { return {shards_, partition}; }
  DType dtype() const { return dtype_; }

 private:
  void add(py::handle object, const char* name, const Array& inputs, std::int64_t columns, const Place& place);

  std::deque<std::string> names_;  // of shards; arrays_ point to them
  std::deque<Array> arrays_;
  std::vector<Shard> shards_;
  DType dtype_;  // of all shards; of the inputs where there are none
};

// The device-independent part of a call: sizes, options, inputs and tables. Owns the tables that `params`
// points to.
class LossCall {
 public:
  LossCall(const Array& inputs, const LossArguments& arguments, const Place& place);

  // Element types of the gradients: those of their arrays, or float32 where grad_dtype asks for it.
  void set_grad_dtypes();
  std::int64_t entries() const { return params.batch * params.num_true + params.num_sampled; }
  LogUniformParams sampling() const;  // of the candidates where none are given

  SampledLossParams params;

 private:
  const LossArguments& arguments_;
  TableArgument weights_;
  TableArgument biases_;
};

// sampled_values = (ids [S], true counts [B, T], sampled counts [S]). Throws InvalidValue unless there are three.
std::array<py::object, 3> three_sampled_values(py::handle given);

// Borrows sampled classes [S].
Array borrow_candidates(py::handle object, std::int64_t num_sampled, const Place& place);

// Borrows expected counts of true classes: [B] counts become [B, 1] if T is 1. Throws InvalidValue for others of
// rank 1.
Array borrow_true_count(py::handle object, const SampledLossParams& params, const Place& place);

}  // namespace fastnce::bindings
