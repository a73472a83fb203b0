// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace octet {

/// Everything Octet throws on purpose. `what()` is a whole message for a person: what is wrong, where, what to do.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A file that is truncated, corrupt, hostile, or in a form that Octet does not read.
class FormatError : public Error {
 public:
  using Error::Error;
};

/// Shapes that do not fit together, or a tensor whose shape is not what the model needs.
class ShapeError : public Error {
 public:
  using Error::Error;
};

/// A command line that cannot be honoured: an unknown name, options that exclude each other. Exit status 2; every other
/// error is 1.
class UsageError : public Error {
 public:
  using Error::Error;
};

/// NaN or infinity where a finite number was needed.
class NumericError : public Error {
 public:
  using Error::Error;
};

/// Throws E with a formatted message:  fail<FormatError>("{}: header has {} bytes", path, n).
template <class E = Error, class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw E(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace octet
