// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace octet {

/// How a learning rate goes down once it has gone up.
enum class Decay : uint8_t { kConstant, kLinear, kCosine };

/// "constant", "linear", "cosine". Throws UsageError, with the nearest, for another.
Decay parse_decay(const std::string& name);
std::string to_string(Decay decay);

/// The learning rate over the steps of a run: up from 0 in `warm_up` steps, then down to 0 at the end of `total`, by a
/// line or half a cosine (Loshchilov and Hutter, 2017), or constant.
struct Schedule {
  double rate = 0;  ///< the highest
  int64_t warm_up = 0, total = 0;
  Decay decay = Decay::kLinear;

  /// Of step 0, 1, …; step `warm_up` is the first with the whole rate.
  double at(int64_t step) const noexcept;
};

}  // namespace octet
