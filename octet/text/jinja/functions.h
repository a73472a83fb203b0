// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <string_view>
#include <vector>

#include "octet/text/jinja/value.h"

namespace octet::jinja {

/// The functions that every chat template can call: range, dict, namespace, raise_exception, strftime_now.
class Functions {
 public:
  Functions(Budget& budget, std::chrono::system_clock::time_point now) : budget_(budget), now_(now) {}

  /// The function of that name; undefined where there is none. Throws OperationError for those of Jinja that are not
  /// supported.
  static Value find(std::string_view name);
  /// Throws RaisedError for raise_exception.
  Value call(std::string_view name, const CallArguments& arguments);

  /// An attribute of a namespace.
  void set(Namespace& space, std::string_view name, const Value& value);

 private:
  Value range(const CallArguments& arguments);
  std::shared_ptr<Dict> dict(const CallArguments& arguments);
  Value name_space(const CallArguments& arguments);
  Value strftime_now(const CallArguments& arguments);

  Budget& budget_;
  std::chrono::system_clock::time_point now_;
  std::vector<std::unique_ptr<Namespace>> namespaces_;
};

}  // namespace octet::jinja
