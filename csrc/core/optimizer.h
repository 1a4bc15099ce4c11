// The checks of an update, once for all backends.
#pragma once

#include "fastnce/optimizer.h"

namespace fastnce {

// That the optimizer's numbers are usable, its states are there, and tables may be written to: their rows are apart,
// and `tables`, whose shapes must be valid, has no inputs in the same memory.
void validate_update(const RowUpdate& update, const Scoring& tables, bool of_weights, bool of_biases);

}  // namespace fastnce
