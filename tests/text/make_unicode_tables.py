#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes octet/text/unicode_tables.cpp: the character classes of the `tokenizers` library, measured.

    python3 tests/text/make_unicode_tables.py > octet/text/unicode_tables.cpp && clang-format -i octet/text/unicode_tables.cpp

The library mixes Unicode versions (its categories are those of Unicode 8, its lowercase mapping follows the compiler it
was built with), and a model's ids depend on them. So each class is asked of the library itself, one code point at a
time, instead of being taken from whatever Unicode version is installed. Needs: pip install tokenizers.
"""
import unicodedata

from tokenizers import __version__, normalizers, pre_tokenizers

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]

# Whether a code point moves past one of these two marks tells whether it has a combining class.
LOWEST_CLASS, HIGHEST_CLASS = "\u0334", "\u0345"  # classes 1 and 240


def bert(**switches):
    options = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return normalizers.BertNormalizer(**{**options, **switches})


def ranges(code_points):
    runs = []
    for c in code_points:
        # Surrogates are no characters; a run may pass over them.
        if runs and (c == runs[-1][1] + 1 or (c == 0xE000 and runs[-1][1] == 0xD7FF)):
            runs[-1][1] = c
        else:
            runs.append([c, c])
    return runs


def table(name, comment, predicate):
    runs = ranges([c for c in CODE_POINTS if predicate(chr(c))])
    print(f"\n// {comment}\nconstexpr CodePointRange {name}[] = {{")
    for i in range(0, len(runs), 6):
        print("    " + " ".join(f"{{0x{a:X}, 0x{b:X}}}," for a, b in runs[i : i + 6]))
    print("};")


def main():
    clean, strip = bert(clean_text=True), bert(strip_accents=True)
    marks, nfd, nfkd, lower = (normalizers.StripAccents(), normalizers.NFD(), normalizers.NFKD(),
                               normalizers.Lowercase())
    punctuation, words = pre_tokenizers.Punctuation(), pre_tokenizers.Whitespace()

    def has_combining_class(ch):
        return (nfd.normalize_str(ch + LOWEST_CLASS) != nfd.normalize_str(ch) + LOWEST_CLASS or
                nfd.normalize_str(HIGHEST_CLASS + ch) != HIGHEST_CLASS + nfd.normalize_str(ch))

    print("// SPDX-License-Identifier: Apache-2.0")
    print(f"// Written by tests/text/make_unicode_tables.py from tokenizers {__version__}; do not edit.")
    print('#include "octet/text/unicode_tables.h"\n\nnamespace octet::unicode::tables {\nnamespace {')
    table("kControlRanges", "Removed by BertNormalizer's clean_text (with U+0000 and U+FFFD, which are listed too).",
          lambda ch: clean.normalize_str(ch) == "")
    table("kNonspacingMarkRanges", "Removed by BertNormalizer's strip_accents.",
          lambda ch: strip.normalize_str("a" + ch) == "a")
    table("kMarkRanges", "Removed by StripAccents.", lambda ch: marks.normalize_str(ch) == "")
    table("kPunctuationRanges", "Split off by BertPreTokenizer and Punctuation.",
          lambda ch: len(punctuation.pre_tokenize_str("a" + ch + "a")) == 3)
    table("kWordRanges", "The class \\w of Whitespace and of single_word.",
          lambda ch: words.pre_tokenize_str("a" + ch)[0][0] == "a" + ch)
    table("kCanonicalDecompositionRanges", "Changed by NFD.", lambda ch: nfd.normalize_str(ch) != ch)
    table("kCompatibilityDecompositionRanges", "Changed by NFKD.", lambda ch: nfkd.normalize_str(ch) != ch)
    table("kCombiningClassRanges", "Reordered by NFD: the combining class is not 0.", has_combining_class)

    # utf8proc maps the rest. Python 3.11 knows Unicode 14, which every supported utf8proc knows too.
    assert unicodedata.unidata_version == "14.0.0", "run this with Python 3.11, whose str.lower() is that of Unicode 14"
    print("\n// Lowercase mappings younger than Unicode 14: first…last map to themselves + offset.")
    print("constexpr LowercaseRange kLowercaseRanges[] = {")
    runs = []
    for c in CODE_POINTS:
        low = lower.normalize_str(chr(c))
        if low != chr(c).lower():
            offset = ord(low) - c
            if runs and runs[-1][1] + 1 == c and runs[-1][2] == offset:
                runs[-1][1] = c
            else:
                runs.append([c, c, offset])
    for a, b, offset in runs:
        print(f"    {{0x{a:X}, 0x{b:X}, {offset}}},")
    print("};\n}  // namespace\n")
    for name, array in [("control", "kControlRanges"), ("nonspacing_marks", "kNonspacingMarkRanges"),
                        ("marks", "kMarkRanges"), ("punctuation", "kPunctuationRanges"), ("word", "kWordRanges"),
                        ("canonical_decompositions", "kCanonicalDecompositionRanges"),
                        ("compatibility_decompositions", "kCompatibilityDecompositionRanges"),
                        ("combining_classes", "kCombiningClassRanges")]:
        print(f"std::span<const CodePointRange> {name}() {{ return {array}; }}")
    print("std::span<const LowercaseRange> lowercase() { return kLowercaseRanges; }")
    print("\n}  // namespace octet::unicode::tables")


if __name__ == "__main__":
    main()
