#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes octet/text/regex_tables.cpp: what the patterns of a tokenizer.json mean by a category of characters.

    python3 tests/text/make_regex_tables.py > octet/text/regex_tables.cpp && clang-format -i octet/text/regex_tables.cpp

The `tokenizers` library matches them with Oniguruma, whose Unicode version is younger than that of many a PCRE2. So each
category is asked of the library itself, and what Unicode 14 (that of PCRE2 10.42, and of the Python 3.11 that runs this)
does not have in it is written down; added to PCRE2's own, it gives the library's. Needs: pip install tokenizers.
"""
import unicodedata

from tokenizers import Regex, __version__, pre_tokenizers

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
CATEGORIES = ["L", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Mn", "Mc", "Me", "N", "Nd", "Nl", "No", "P", "S"]


def matches(pattern):
    kept = set()
    splitter = pre_tokenizers.Split(Regex(pattern), "removed")
    for piece, _ in splitter.pre_tokenize_str("".join(map(chr, CODE_POINTS))):
        kept.update(map(ord, piece))
    return [c for c in CODE_POINTS if c not in kept]


def ranges(code_points):
    runs = []
    for c in code_points:
        if runs and c == runs[-1][1] + 1:
            runs[-1][1] = c
        else:
            runs.append([c, c])
    return runs


def table(name, code_points):
    print(f"constexpr CodePointRange {name}[] = {{")
    print("    " + " ".join(f"{{0x{a:X}, 0x{b:X}}}," for a, b in ranges(code_points)))
    print("};")


def main():
    assert unicodedata.unidata_version == "14.0.0", "run this with Python 3.11, whose Unicode version is 14"
    spaces = [0x9, 0xA, 0xB, 0xC, 0xD, 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F,
              0x3000]
    assert matches(r"\s") == spaces, r"Regex writes \s out as these"
    digits = pre_tokenizers.Digits(individual_digits=True)
    numeric = [c for c in CODE_POINTS if len(digits.pre_tokenize_str("a" + chr(c))) == 2]

    print("// SPDX-License-Identifier: Apache-2.0")
    print(f"// Written by tests/text/make_regex_tables.py from tokenizers {__version__}; do not edit.")
    print('#include "octet/text/regex_tables.h"\n\nnamespace octet::unicode::tables {\nnamespace {\n')
    print("// What Digits takes for a digit.")
    table("kNumericRanges", numeric)
    younger = {}
    for category in CATEGORIES:
        known = {c for c in CODE_POINTS if unicodedata.category(chr(c)).startswith(category)}
        matched = matches(rf"\p{{{category}}}")
        # A few marks have moved from Mn to Mc; whole categories only grow.
        assert len(category) == 2 or known <= set(matched), f"{category} has lost code points"
        younger[category] = [c for c in matched if c not in known]
    print()
    named = [category for category in CATEGORIES if younger[category]]
    for category in named:
        table(f"k{category}Ranges", younger[category])
    print("\n}  // namespace\n")
    print("std::span<const CodePointRange> numeric() { return kNumericRanges; }\n")
    print("std::span<const CodePointRange> younger_than_unicode_14(std::string_view category) {")
    for category in named:
        print(f'  if (category == "{category}") return k{category}Ranges;')
    print("  return {};\n}\n\n}  // namespace octet::unicode::tables")


if __name__ == "__main__":
    main()
