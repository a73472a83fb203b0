// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace octet {

/// 'name' for a message, where the name comes from a file: control characters are escaped, and it is cut to a line.
std::string quote_name(std::string_view name);

}  // namespace octet
