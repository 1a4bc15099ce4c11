// A number that a distribution depends on, besides V.
#pragma once

namespace fastnce::math {

struct Parameter {
  const char* name;  // of the argument, for errors
  double above;      // valid are finite numbers above this
};

}  // namespace fastnce::math
