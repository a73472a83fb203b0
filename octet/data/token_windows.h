// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "octet/data/token_documents.h"
#include "octet/text/tokenizer.h"

namespace octet {

/// Documents cut into windows, one after another, none of which goes across a document's end: what a model learns a
/// language from.
class TokenWindows {
 public:
  /// Where the special tokens stand that the tokenizer's template puts around a text.
  enum class Frame : uint8_t {
    kDocument,  ///< around the document, which is cut then: decoders. Windows of a single token are left out.
    kWindow,    ///< around each window: encoders
  };

  /// Windows of at most `length` tokens, special ones included. With a limit the first documents only, or, of a text
  /// that is one, the first windows. A document that is framed itself ends in `end_id`, where that is given, even if
  /// the template does not say so: that its text is over is to be learned too. Throws UsageError where `length` has no
  /// room for a token to learn from, Error where the documents make no window.
  TokenWindows(TokenDocuments documents, const Tokenizer& tokenizer, int64_t length, Frame frame,
               std::optional<int64_t> limit = {}, std::optional<int32_t> end_id = {});

  int64_t size() const noexcept { return static_cast<int64_t>(windows_.size()); }
  int64_t tokens(size_t window) const;
  std::vector<int32_t> ids(size_t window) const;

 private:
  struct Window {
    uint32_t document = 0;
    int64_t begin = 0, end = 0;  // tokens of the document: kDocument counts special ones, kWindow does not
  };

  TokenDocuments documents_;
  Tokenizer::Frame special_;
  Frame frame_;
  std::vector<Window> windows_;
};

}  // namespace octet
