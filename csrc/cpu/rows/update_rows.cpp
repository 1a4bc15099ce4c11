#include "cpu/rows/update_rows.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <functional>
#include <span>

#include "cpu/rows/row_plan.h"
#include "cpu/runtime/interrupt.h"
#include "cpu/runtime/parallel.h"
#include "cpu/runtime/workspace.h"

namespace fastnce::cpu {

namespace {

// Some 0.1 ns each, in two to four streams of memory.
constexpr double kElementsPerThread = 3e5;

// Gradients [n, dim] of one table, as the caller has them.
struct Gradients {
  const void* values;  // null: the table is not updated
  std::int64_t stride, dim;
  DType dtype;
  bool in_order;  // row i of the plan, which has ids alone then, is row i here

  const void* row(std::int64_t i) const {
    return static_cast<const std::byte*>(values) + i * stride * element_bytes(dtype);
  }
};

template <class T>
class TableRows {
 public:
  TableRows(const UpdateKernels<T>& kernels, const UpdatedTable<T>& table, const Gradients& gradients,
            const RowPlan& plan)
      : kernels_(kernels),
        table_(table),
        gradients_(gradients),
        plan_(plan),
        in_place_(gradients.in_order && gradients.stride == gradients.dim &&
                  element_bytes(gradients.dtype) == static_cast<std::int64_t>(sizeof(T))) {}

  // Elements.
  static std::int64_t scratch(std::int64_t dim) { return (kRowsAtOnce + 1) * dim; }

  void update(Range rows, T* scratch) const {
    if (gradients_.values == nullptr) return;
    T* const buffer = scratch;
    T* const sums = scratch + table_.dim;
    for (std::int64_t begin = rows.begin; begin < rows.end; begin += kRowsAtOnce) {
      const Range part{begin, std::min(begin + kRowsAtOnce, rows.end)};
      const T* gradients = static_cast<const T*>(gradients_.row(part.begin));
      if (!in_place_) {
        add_up(part, sums, buffer);
        gradients = sums;
      }
      kernels_.update(table_, plan_.ids.data() + part.begin, part.size(), gradients, buffer);
    }
  }

 private:
  static constexpr std::int64_t kRowsAtOnce = 16;

  void add_up(Range rows, T* sums, T* buffer) const {
    std::fill_n(sums, rows.size() * table_.dim, T{0});
    for (std::int64_t r = rows.begin; r < rows.end; ++r) {
      T* const sum = sums + (r - rows.begin) * table_.dim;
      const auto add = [&](std::int64_t i) {
        kernels_.add_row(gradients_.row(i), gradients_.dtype, table_.dim, sum, buffer);
      };
      if (gradients_.in_order) {  // the plan has ids alone
        add(r);
      } else {
        for (std::int64_t i = plan_.offsets[r]; i < plan_.offsets[r + 1]; ++i) add(plan_.entries[i]);
      }
    }
  }

  const UpdateKernels<T>& kernels_;
  const UpdatedTable<T>& table_;
  const Gradients& gradients_;
  const RowPlan& plan_;
  const bool in_place_;
};

template <class T>
void run(const RowUpdate& update, const Scoring& tables, const GradientRows& rows) {
  const std::span ids(rows.ids, static_cast<std::size_t>(rows.count));
  const bool in_order = std::ranges::adjacent_find(ids, std::greater_equal<>{}) == ids.end();
  RowPlan plan;
  in_order ? plan.ids.assign(ids.begin(), ids.end()) : cpu::plan_rows(ids, {}, plan);
  Interruption interruption;
  interruption.requested();
  interruption.check();  // from here on all rows are updated: half a step would leave a table that no step leaves

  const UpdateKernels<T>& kernels = update_kernels<T>(current_isa());
  const UpdatedTable<T> weights = updated_weights<T>(update, tables), biases = updated_biases<T>(update, tables);
  const Gradients of_weights{rows.weights, rows.weights_stride, tables.dim, rows.weights_dtype.value_or(tables.dtype),
                             in_order};
  const Gradients of_biases{rows.biases, 1, 1, rows.biases_dtype.value_or(tables.dtype), in_order};
  const TableRows<T> weight_rows(kernels, weights, of_weights, plan), bias_rows(kernels, biases, of_biases, plan);

  const double elements = static_cast<double>(rows.count) * static_cast<double>(tables.dim + 16);
  const int threads = threads_for(elements, kElementsPerThread);
  const std::int64_t scratch = TableRows<T>::scratch(std::max<std::int64_t>(tables.dim, 1));
  Carver measure;
  measure.take<T>(scratch * threads);
  const Workspace workspace(measure.used());
  parallel(threads, [&](const Team& team) {
    T* const own = Carver(workspace.memory()).take<T>(scratch * threads) + scratch * team.rank;
    const Range share = team.share(std::ssize(plan.ids));
    weight_rows.update(share, own);
    bias_rows.update(share, own);
  });
}

}  // namespace

std::int64_t rows_before_padding(const GradientRows& rows, const Scoring& tables) {
  if (!rows.padded) return rows.count;
  const auto is_zero = [](const void* data, std::int64_t first, std::int64_t elements, DType dtype) {
    if (data == nullptr) return true;
    const auto bytes = static_cast<std::size_t>(elements * element_bytes(dtype));
    const auto* const begin = static_cast<const std::byte*>(data) + first * element_bytes(dtype);
    // If each byte is that before it and the first is 0, all are: memcmp() reads many at once.
    return bytes == 0 || (begin[0] == std::byte{0} && std::memcmp(begin, begin + 1, bytes - 1) == 0);
  };
  const auto is_padding = [&](std::int64_t i) {
    return (i == 0 || rows.ids[i] == rows.ids[i - 1]) &&
           is_zero(rows.weights, i * rows.weights_stride, tables.dim, rows.weights_dtype.value_or(tables.dtype)) &&
           is_zero(rows.biases, i, 1, rows.biases_dtype.value_or(tables.dtype));
  };
  std::int64_t used = rows.count;
  while (used > 0 && is_padding(used - 1)) --used;
  return used;
}

void update_rows(const RowUpdate& update, const Scoring& tables, const GradientRows& rows) {
  tables.dtype == DType::kFloat32 ? run<float>(update, tables, rows) : run<double>(update, tables, rows);
}

}  // namespace fastnce::cpu
