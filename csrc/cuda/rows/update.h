// Updates of rows of class tables by an optimizer.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastnce/cuda.h"
#include "fastnce/optimizer.h"

namespace fastnce::cuda {

// As in fastnce/cuda.h, for the current device. Arguments must be valid.
std::size_t update_rows_bytes(const Scoring& tables, const GradientRows& rows);
void queue_update_rows(const RowUpdate& update, const Scoring& tables, const GradientRows& rows,
                       const Workspace& workspace, const Stream& stream);
void queue_update_complete_rows(const RowUpdate& update, const Scoring& tables, const GradientRows& rows,
                                const std::int64_t* row_count, const Stream& stream);

}  // namespace fastnce::cuda
