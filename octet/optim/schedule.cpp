// SPDX-License-Identifier: Apache-2.0
#include "octet/optim/schedule.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <vector>

#include "octet/base/error.h"
#include "octet/base/suggest.h"

namespace octet {
namespace {

constexpr std::array<const char*, 3> kNames = {"constant", "linear", "cosine"};

}  // namespace

Decay parse_decay(const std::string& name) {
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (name == kNames[i]) return static_cast<Decay>(i);
  }
  const std::vector<std::string> known(kNames.begin(), kNames.end());
  fail<UsageError>("there is no schedule '{}'; constant, linear and cosine are known.{}", name,
                   did_you_mean(name, known));
}

std::string to_string(Decay decay) { return kNames[static_cast<size_t>(decay)]; }

double Schedule::at(int64_t step) const noexcept {
  if (step < warm_up) return rate * static_cast<double>(step) / static_cast<double>(warm_up);
  if (decay == Decay::kConstant || total <= warm_up) return rate;
  const double left = std::clamp(static_cast<double>(total - step) / static_cast<double>(total - warm_up), 0.0, 1.0);
  return decay == Decay::kLinear ? rate * left : rate * (1 - std::cos(std::numbers::pi * left)) / 2;
}

}  // namespace octet
