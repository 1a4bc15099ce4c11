// Classes must be in range before their expected counts are computed.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "fastnce/error.h"

namespace fastnce::bindings {

// Throws InvalidValue for the first of `classes` [B, columns] that is not in [0, limit).
inline void require_in_range(std::span<const std::int64_t> classes, std::int64_t columns, std::string_view name,
                             std::string_view limit_name, std::int64_t limit) {
  for (std::int64_t i = 0; i < std::ssize(classes); ++i) {
    if (classes[i] >= 0 && classes[i] < limit) continue;
    throw InvalidValue(concat(name, "[", i / columns, ", ", i % columns, "] = ", classes[i], " is outside [0, ",
                              limit_name, " = ", limit, ")"));
  }
}

}  // namespace fastnce::bindings
