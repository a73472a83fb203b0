// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace octet {

/// What a text file holds. Each document begins anew: its first tokens are those that the tokenizer puts before a text,
/// and it is never seen by another's tokens. White space around a document that is part of a file is not part of it,
/// and documents without anything else are left out.
enum class Documents : uint8_t {
  kWhole,       ///< the file, every byte of it, is one document
  kLines,       ///< a line a document
  kBlankLines,  ///< documents with blank lines between them
  kEndOfText,   ///< documents with lines "<|endoftext|>" between them
};

/// The names of Documents, "whole", "lines", "blank-lines", "end-of-text", in their order.
const std::vector<std::string>& documents_names();
/// Throws UsageError, with the nearest name, for another.
Documents parse_documents(const std::string& name);

/// The documents of a text one after another; the text is read no further than that.
class DocumentScanner {
 public:
  DocumentScanner(std::string_view text, Documents documents) : text_(text), documents_(documents) {}

  /// White space around it taken off unless it is the whole; none: there are no more.
  std::optional<std::string_view> next();
  /// Bytes of the text that were read.
  size_t position() const noexcept { return position_; }

 private:
  std::string_view text_;
  Documents documents_;
  size_t position_ = 0;
  bool done_ = false;
};

/// All of them at once.
std::vector<std::string_view> split_documents(std::string_view text, Documents documents);

}  // namespace octet
