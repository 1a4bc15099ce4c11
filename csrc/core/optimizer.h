// The checks of an update, once for all backends.
#pragma once

#include "fastnce/optimizer.h"

namespace fastnce {

// That the optimizer's numbers are usable, its states are there, and tables may be written to: no two rows share
// memory, and `tables`, whose shapes must be valid, has no inputs in the same memory.
void validate_update(const RowUpdate& update, const Scoring& tables, bool of_weights, bool of_biases);

// The same of an update of these rows, which must lie elsewhere, too: each is read while others are updated.
void validate_update(const RowUpdate& update, const Scoring& tables, const GradientRows& rows);

}  // namespace fastnce
