// Row gradients in arrays with room for more rows than a step touches: those left over repeat the last id, with
// gradients of zero, so that adding them up is harmless.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "fastnce/sampled_loss.h"

namespace fastnce::bindings {

// Writes the ids of a plan and the padding.
inline void pad_ids(const RowPlan& plan, std::span<std::int64_t> ids) {
  const auto rest = std::ranges::copy(plan.ids, ids.begin()).out;
  std::fill(rest, ids.end(), plan.ids.empty() ? 0 : plan.ids.back());
}

// Writes the padding of `rows` rows of gradients that lie in `bytes`.
inline void pad_gradients(const RowPlan& plan, std::int64_t rows, std::span<std::byte> bytes) {
  const std::size_t row_bytes = rows > 0 ? bytes.size() / static_cast<std::size_t>(rows) : 0;
  std::ranges::fill(bytes.subspan(plan.ids.size() * row_bytes), std::byte{0});
}

}  // namespace fastnce::bindings
