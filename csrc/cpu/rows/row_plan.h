// The rows that a step touches, sorted and unique.
#pragma once

#include <cstdint>
#include <span>

#include "fastnce/rows.h"

namespace fastnce::cpu {

// As in fastnce/rows.h. Ids must not be negative.
void plan_rows(std::span<const std::int64_t> labels, std::span<const std::int64_t> sampled, RowPlan& plan);

}  // namespace fastnce::cpu
