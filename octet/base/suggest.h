// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace octet {

/// " Did you mean 'group_size'?" for the known name nearest to `given` by edit distance, or " Known: a, b, c." where
/// none is near. Starts with a space, so that it can be appended to a sentence.
std::string did_you_mean(std::string_view given, std::span<const std::string> known);

}  // namespace octet
