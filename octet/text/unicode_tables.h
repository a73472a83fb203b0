// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

/// The character classes of the Hugging Face `tokenizers` library, as measured by tests/text/make_unicode_tables.py.
/// They are tables of our own, not those of the installed utf8proc, because a model's ids depend on them: the library's
/// general categories are those of Unicode 8, while its lowercase mapping and \w are far younger.
namespace octet::unicode {

struct CodePointRange {
  char32_t first, last;  ///< both included
};

struct LowercaseRange {
  char32_t first, last;  ///< both included
  int32_t offset;        ///< what is added to a code point to make it lowercase
};

}  // namespace octet::unicode

namespace octet::unicode::tables {

std::span<const CodePointRange> control();
std::span<const CodePointRange> nonspacing_marks();
std::span<const CodePointRange> marks();
std::span<const CodePointRange> punctuation();
std::span<const CodePointRange> word();
std::span<const CodePointRange> canonical_decompositions();
std::span<const CodePointRange> compatibility_decompositions();
std::span<const CodePointRange> combining_classes();
std::span<const LowercaseRange> lowercase();

}  // namespace octet::unicode::tables
