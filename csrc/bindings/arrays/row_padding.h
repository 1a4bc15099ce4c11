// Row gradients in arrays with room for more rows than a step touches: those left over repeat the last id, with
// gradients of zero, so that adding them up is harmless.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
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

// How many of these rows are no padding. `gradients`: the bytes of each array of them. Where all have one id and are
// zero, as those of a batch that touches no row, all are padding.
inline std::size_t rows_before_padding(std::span<const std::int64_t> ids,
                                       std::span<const std::span<const std::byte>> gradients) {
  const auto is_zero = [&](std::size_t row) {
    return std::ranges::all_of(gradients, [&](std::span<const std::byte> array) {
      const std::span<const std::byte> bytes =
          array.subspan(row * (array.size() / ids.size()), array.size() / ids.size());
      return bytes.empty() ||
             (bytes[0] == std::byte{0} && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
    });
  };
  std::size_t used = ids.size();
  while (used > 0 && (used == 1 || ids[used - 1] == ids[used - 2]) && is_zero(used - 1)) --used;
  return used;
}

}  // namespace fastnce::bindings
