// Row gradients in arrays with room for more rows than a step touches: those left over repeat the last id, with
// gradients of zero, so that adding them up is harmless.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace fastnce::bindings {

// Writes ids and their padding.
inline void pad_ids(std::span<const std::int64_t> row_ids, std::span<std::int64_t> ids) {
  const auto rest = std::ranges::copy(row_ids, ids.begin()).out;
  std::fill(rest, ids.end(), row_ids.empty() ? 0 : row_ids.back());
}

// Writes the padding of `rows` rows of gradients that lie in `bytes`, of which the first `used` are no padding.
inline void pad_gradients(std::size_t used, std::int64_t rows, std::span<std::byte> bytes) {
  const std::size_t row_bytes = rows > 0 ? bytes.size() / static_cast<std::size_t>(rows) : 0;
  std::ranges::fill(bytes.subspan(used * row_bytes), std::byte{0});
}

}  // namespace fastnce::bindings
