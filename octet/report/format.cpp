// SPDX-License-Identifier: Apache-2.0
#include "octet/report/format.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include <fmt/format.h>

namespace octet {
namespace {

// "1234567.8" with a comma before every third digit left of the point.
std::string separate_thousands(std::string number) {
  const size_t first = number.find_first_of("0123456789");
  if (first == std::string::npos) return number;
  const size_t point = std::min(number.find('.'), number.size());
  for (size_t place = point; place > first + 3;) number.insert(place -= 3, 1, ',');
  return number;
}

// Digits after the point that leave `significant` in all, once rounding has settled how many stand before it.
int decimals_for(double value, int significant) {
  if (value == 0 || !std::isfinite(value)) return 0;
  // Scientific notation rounds first: 9.996 to three digits is 1.00e+01, so its exponent is 1.
  const std::string rounded = fmt::format("{:.{}e}", value, significant - 1);
  const int exponent = std::stoi(rounded.substr(rounded.find('e') + 1));
  return std::max(0, significant - 1 - exponent);
}

}  // namespace

std::string format_count(int64_t count) { return separate_thousands(fmt::format("{}", count)); }

std::string format_number(double value, int significant) {
  return separate_thousands(fmt::format("{:.{}f}", value, decimals_for(value, std::clamp(significant, 1, 15))));
}

std::string format_bytes(int64_t bytes) {
  constexpr std::array<std::string_view, 6> kUnits = {"kB", "MB", "GB", "TB", "PB", "EB"};
  if (bytes > -1000 && bytes < 1000) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes) / 1000;
  size_t unit = 0;
  // 999.5 would be shown as 1,000.
  while (std::abs(value) >= 999.5 && unit + 1 < kUnits.size()) value /= 1000, ++unit;
  return fmt::format("{} {}", format_number(value), kUnits[unit]);
}

std::string format_ms(double milliseconds) { return format_number(milliseconds) + " ms"; }

std::string format_percent(double fraction, int decimals) {
  return separate_thousands(fmt::format("{:.{}f}", fraction * 100, std::clamp(decimals, 0, 15))) + " %";
}

}  // namespace octet
