// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace octet {

/// Figures as a person reads them. NaN and infinity are written as such ("nan", "inf").

/// "22,713,216"
std::string format_count(int64_t count);

/// `significant` digits (1 to 15), plain notation, thousands separated: 0.00912, 1.50, 45.4, 129, 1,234. Digits left of
/// the decimal point are never dropped: 1234.5 to three digits is "1,235".
std::string format_number(double value, int significant = 3);

/// Three digits and a decimal unit (1 MB = 1,000,000 bytes): "812 B", "45.4 MB", "1.02 GB".
std::string format_bytes(int64_t bytes);

/// Milliseconds to three digits: "0.412 ms", "12.3 ms", "1,234 ms".
std::string format_ms(double milliseconds);

/// A fraction in hundredths: 0.0091 is "0.9 %". `decimals` (0 to 15) digits follow the point.
std::string format_percent(double fraction, int decimals = 1);

}  // namespace octet
