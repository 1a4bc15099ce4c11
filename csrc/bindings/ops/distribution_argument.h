// What names a distribution: a string, a tuple (string, *parameters), or one of the tables that
// register_distribution.cpp binds.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

#include "fastnce/distribution.h"

namespace fastnce::bindings {

// Borrows the tables of `object`, which must outlive the call. Throws InvalidValue as distribution_named() does, and
// where `range_max` is not the number of classes of a table.
Distribution distribution_argument(pybind11::handle object, std::int64_t range_max);

}  // namespace fastnce::bindings
