// Arguments of the sampled losses that are the same on every device.
#pragma once

#include <array>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "bindings/arrays/array.h"
#include "fastnce/loss.h"

namespace fastnce::bindings {

// As Python passes them, by the names of python/fastnce/_request.py. Null: not given.
struct LossArguments {
  explicit LossArguments(const py::dict& given);

  py::handle weights, biases, labels, inputs, num_sampled, num_classes, num_true, padding, sampled_values;
  // Of a Ragged: `labels` or `exclude` are its values.
  py::handle label_offsets, exclude, exclude_offsets;
  py::handle label_weights, class_keys, temperature;
  py::handle weights_name;  // in errors
  py::handle log_q;         // whether sampled_values hold log Q in place of expected counts
  py::handle family, true_target, positive_weight, negative_weight, remove_accidental_hits;
  py::handle partition_strategy, precision;
  // Of the candidates where none are given: the key of the stream, and the number of the call, which a CUDA device
  // counts in its memory at the address `calls`.
  py::handle seed, call, calls;
  // Which gradients are wanted: of inputs, weights, biases.
  py::handle gradients;
  py::handle grad_loss, grad_dtype, pad_rows;
  // Of a loss in parts, see OtherParts; and whether log_sum_exp is wanted.
  py::handle label_counts, label_weight_sums, other_log_sum_exp, log_sum_exp;
  py::handle optimizer;  // an OptimizerArgument, which updates the rows in place of row gradients
  py::handle device;     // a Device of python/fastnce/_devices.py; None: the CPU
};

// The names of all arguments.
py::tuple loss_fields();

inline bool is_given(py::handle argument) { return argument.ptr() != nullptr && !argument.is_none(); }

// A class table as passed: one array, or a list or tuple of shards. Owns what a Table points to.
class TableArgument {
 public:
  // `columns` < 0: a [V] table (biases). None: no table.
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

// The device-independent part of a call: sizes, options, inputs and tables. Owns the tables that `request` points to.
class LossCall {
 public:
  // `inputs` are [..., D] with rows that can be used in place; the axes before D are the batch.
  LossCall(Array inputs, const LossArguments& arguments, const Place& place);

  // Element types of the gradients: those of their arrays, or float32 where grad_dtype asks for it.
  void set_grad_dtypes(LossOutputs& outputs) const;
  std::int64_t entries() const { return request.targets.count(request.batch) + request.negatives.total(); }
  bool names_num_sampled() const { return is_given(arguments_.num_sampled); }
  bool names_num_true() const { return is_given(arguments_.num_true); }
  // Where none are given, log-uniform and unique, as TensorFlow's default.
  void draw_candidates();
  const std::vector<std::int64_t>& batch_shape() const { return batch_shape_; }
  bool has_label_lists() const { return is_given(arguments_.label_offsets); }
  std::vector<std::int64_t> label_shape() const;  // [..., T], or [n] of lists
  const std::vector<std::int64_t>& inputs_shape() const { return inputs_shape_; }

  const bool pads_rows;

 private:
  const LossArguments& arguments_;
  const std::vector<std::int64_t> batch_shape_, inputs_shape_;
  const Array inputs_;  // [B, D]

 public:
  LossRequest request;

 private:
  TableArgument weights_;
  TableArgument biases_;
};

// sampled_values = (ids [S], true counts [..., T], sampled counts [S]); both counts may be None. Throws InvalidValue
// unless there are three.
std::array<py::object, 3> three_sampled_values(py::handle given);

// Borrows sampled classes [S] or [G, S]. Sets the request's G and, if the call named none, its S.
Array borrow_candidates(py::handle object, LossCall& call, const Place& place);

// Borrows labels [..., T] or, for T = 1, [...]; of lists [n], and sets n. Sets T if the call did not name it.
Array borrow_labels(py::handle object, LossCall& call, const Place& place);

// Borrows the offsets [B + 1] of lists, one for each example.
Array borrow_offsets(py::handle object, const char* name, const LossCall& call, const Place& place);

// Borrows the keys [V] of classes.
Array borrow_class_keys(py::handle object, const LossCall& call, const Place& place);

// Borrows a number for each example, [...]. Throws InvalidValue for other shapes.
Array borrow_per_example(py::handle object, const char* name, const LossCall& call, const Place& place);

// Borrows a number for each label, such as expected counts: [...] become [..., 1] if T is 1. Throws InvalidValue for
// others of rank 1.
Array borrow_per_label(py::handle object, const char* name, const LossCall& call, const Place& place);

// A weight that is one number; throws InvalidValue unless it is finite in the compute dtype. Otherwise none: it is an
// array.
std::optional<double> one_number(py::handle object, const char* name, DType dtype);

}  // namespace fastnce::bindings
