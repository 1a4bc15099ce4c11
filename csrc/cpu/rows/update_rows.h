// Updates of rows by an optimizer, from gradients that were computed before.
#pragma once

#include "cpu/rows/update_kernels.h"
#include "fastnce/optimizer.h"

namespace fastnce::cpu {

// The tables of a call under an optimizer; `optimizer` must outlive what is returned.
template <class T>
UpdatedTable<T> updated_weights(const RowUpdate& update, const Scoring& tables) {
  return {view(tables.weights, tables.weights_dtype.value_or(tables.dtype)),
          tables.dim,
          {static_cast<T*>(update.weights_states[0]), static_cast<T*>(update.weights_states[1])},
          0,
          &update.optimizer};
}

template <class T>
UpdatedTable<T> updated_biases(const RowUpdate& update, const Scoring& tables) {
  return {view(tables.biases, tables.biases_dtype.value_or(tables.dtype)),
          1,
          {static_cast<T*>(update.biases_states[0]), static_cast<T*>(update.biases_states[1])},
          1,
          &update.optimizer};
}

// How many of the rows are no padding, see GradientRows::padded.
std::int64_t rows_before_padding(const GradientRows& rows, const Scoring& tables);

// As in fastnce/optimizer.h, of rows without padding. The arguments must be valid.
void update_rows(const RowUpdate& update, const Scoring& tables, const GradientRows& rows);

}  // namespace fastnce::cpu
