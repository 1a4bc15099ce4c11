// Classes must be in range before their expected counts are computed.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "fastnce/error.h"

namespace fastnce::bindings {

// Throws InvalidValue for the first of `classes` that is not in [0, limit). They are [B, columns], or [n] for 0
// columns.
inline void require_in_range(std::span<const std::int64_t> classes, std::int64_t columns, std::string_view name,
                             std::string_view limit_name, std::int64_t limit) {
  for (std::int64_t i = 0; i < std::ssize(classes); ++i) {
    if (classes[i] >= 0 && classes[i] < limit) continue;
    const std::string at = columns > 0 ? concat(i / columns, ", ", i % columns) : concat(i);
    throw InvalidValue(concat(name, "[", at, "] = ", classes[i], " is outside [0, ", limit_name, " = ", limit, ")"));
  }
}

}  // namespace fastnce::bindings
