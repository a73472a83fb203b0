// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace octet {

/// A stretch [begin, end) of a UTF-8 text, in bytes.
struct ByteRange {
  size_t begin, end;
};

/// A regular expression of a `tokenizer.json`. Such patterns are written for Oniguruma with Ruby's syntax; this is
/// PCRE2 told to find the same matches. What means something else there (sets within sets, \K, verbs) is refused.
class Regex {
 public:
  /// Throws FormatError, which does not name the file: the reader adds that.
  static Regex compile(std::string_view pattern);
  /// Finds `text` itself.
  static Regex literal(std::string_view text);

  /// The matches in `text` (valid UTF-8) from left to right. Empty ones count, but for one right behind the match
  /// before it. Throws FormatError where finding one takes unreasonably many steps.
  std::vector<ByteRange> find_all(std::string_view text) const;

 private:
  struct Compiled;

  explicit Regex(const std::string& pcre2_pattern, std::string_view pattern);

  std::shared_ptr<const Compiled> compiled_;
};

/// `pattern` as PCRE2 has to read it. Throws FormatError for what Octet does not read.
std::string to_pcre2(std::string_view pattern);

}  // namespace octet
