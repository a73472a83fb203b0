// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace octet {

/// Calls of operator new in this program so far, whoever made them; 0 in sanitizer builds, where they are not counted.
int64_t allocation_count();

}  // namespace octet
