// Errors: invalid arguments, and errors of a device. Messages name the argument, what was expected and what came. The
// bindings turn InvalidValue into Python's ValueError, InvalidType into TypeError and DeviceError into RuntimeError.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace fastnce {

// Right type, unusable value: shape, range, device, layout.
class InvalidValue : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

// An argument of a type that the operation does not take.
class InvalidType : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

// CUDA reported an error: no memory left, a kernel that failed.
class DeviceError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

}  // namespace fastnce
