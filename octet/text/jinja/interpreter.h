// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <map>
#include <string>

#include "octet/text/jinja/budget.h"
#include "octet/text/jinja/syntax.h"
#include "octet/text/jinja/value.h"

namespace octet::jinja {

/// A template called raise_exception.
class RaisedError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

using Variables = std::map<std::string, Value, std::less<>>;

/// What `program` prints with these variables, whose values are counted in `budget`. Throws LocatedError for what the
/// template does wrong, and RaisedError.
std::string interpret(const Block& program, Variables variables, Budget& budget,
                      std::chrono::system_clock::time_point now);

}  // namespace octet::jinja
