// SPDX-License-Identifier: Apache-2.0
#include "octet/nn/context.h"

#include <algorithm>

#include "octet/base/error.h"

namespace octet {

void check_numerics(Context& context, const QuantSites& sites, std::span<const int32_t> offsets) {
  const std::optional<NumericFault> fault = context.backend.take_fault();
  if (!fault) return;
  const auto after = std::upper_bound(offsets.begin(), offsets.end(), fault->row);
  const int64_t sequence = after - offsets.begin() - 1;
  fail<NumericError>(
      "layer '{}': its input holds NaN or infinity (sequence {} of its batch, token {}), which no code stands for. "
      "The weights may be damaged, or overflow: compare with the float model.",
      sites[fault->site].name, sequence, fault->row - offsets[static_cast<size_t>(sequence)]);
}

}  // namespace octet
