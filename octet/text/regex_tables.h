// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>

#include "octet/text/unicode_tables.h"

/// Categories of characters as the patterns and pre-tokenizers of the `tokenizers` library have them, as measured by
/// tests/text/make_regex_tables.py.
namespace octet::unicode::tables {

/// What the pre-tokenizer Digits takes for a digit.
std::span<const CodePointRange> numeric();
/// The code points of a category ("L", "Nd", …) that Unicode 14 does not have in it; none for an unknown name.
std::span<const CodePointRange> younger_than_unicode_14(std::string_view category);

}  // namespace octet::unicode::tables
