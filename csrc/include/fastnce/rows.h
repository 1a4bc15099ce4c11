// Which rows of the class table a step touches: the shape of the coalesced row gradients.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fastnce {

// Each touched row once, ascending.
//
// Row r belongs to class ids[r] and collects the contributions entries[offsets[r] .. offsets[r+1]), in ascending order:
// entry e < n is true class e of the n of the batch, entry e >= n is sampled position e - n.
struct RowPlan {
  std::vector<std::int64_t> ids;          // [rows]
  std::vector<std::int64_t> offsets;      // [rows + 1]
  std::vector<std::int64_t> entries;      // [n + S]
  std::vector<std::int64_t> sampled_row;  // [S]: the row of each sampled position
  bool samples_distinct = true;           // no class was sampled twice
};

// Ids must not be negative. The second form overwrites a plan and reuses its memory.
RowPlan plan_rows(std::span<const std::int64_t> labels, std::span<const std::int64_t> sampled);
void plan_rows(std::span<const std::int64_t> labels, std::span<const std::int64_t> sampled, RowPlan& plan);

}  // namespace fastnce
