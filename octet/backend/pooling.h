// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace octet {

/// How the rows of a sequence become one vector, as sentence-transformers defines them.
enum class Pooling : uint8_t { kMean, kMax, kFirst, kMeanSqrtLength };

}  // namespace octet
