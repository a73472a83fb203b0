// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <variant>
#include <vector>

#include "octet/text/regex.h"
#include "octet/text/vocabulary.h"

namespace octet {

/// A space between tokens.
struct SpacesDecoder {};

/// A space before every token that does not begin with the prefix ("##"), which goes.
struct WordPieceDecoder {
  std::string prefix;
  bool cleanup = false;  ///< undo English tokenization: no space before punctuation, "do n't" to "don't"
};

/// Characters that stand for bytes (byte_level.h) become these bytes; a token with any other character is taken as it
/// is. The bytes of all tokens together are the text, U+FFFD where they are not UTF-8.
struct ByteLevelDecoder {};

/// A run of tokens <0x00>…<0xFF> becomes these bytes, where they are UTF-8; else one U+FFFD a token.
struct ByteFallbackDecoder {};

/// All tokens become one.
struct FuseDecoder {};

/// Replaces a string (not empty) or a pattern in every token.
struct ReplaceDecoder {
  std::variant<std::string, Regex> pattern;
  std::string content;
};

/// Drops up to `start` of a character at the beginning of every token, and up to `stop` at its end.
struct StripDecoder {
  char32_t content = U' ';
  int64_t start = 0, stop = 0;
};

/// `replacement` becomes a space; in the first token, where `strip_first`, nothing.
struct MetaspaceDecoder {
  char32_t replacement = U'▁';
  bool strip_first = true;
};

/// The suffix of a token becomes a space; in the last token, nothing.
struct SuffixDecoder {
  std::string suffix;
};

/// The text of SentencePiece's tokens: ▁ is a space, control tokens are nothing, byte tokens are bytes, U+FFFD for each
/// that belongs to no character.
struct SentencePieceDecoder {
  struct Pieces {
    std::unordered_set<std::string, StringHash, std::equal_to<>> control;
    StringMap<unsigned char> bytes;
    std::string unknown, unknown_text;
  };

  std::shared_ptr<const Pieces> pieces;
  bool strips_space = true;       ///< that before the text
  bool strips_all_spaces = true;  ///< all before the text
};

using DecoderStep = std::variant<SpacesDecoder, WordPieceDecoder, ByteLevelDecoder, ByteFallbackDecoder, FuseDecoder,
                                 ReplaceDecoder, StripDecoder, MetaspaceDecoder, SuffixDecoder, SentencePieceDecoder>;

/// How tokens become text again, step by step; then what is left of them is joined.
struct Decoder {
  std::vector<DecoderStep> steps{SpacesDecoder{}};
};

/// Decodes token by token. What push() and finish() append is whole characters, and together it is the text.
class DecoderStream {
 public:
  /// A step at work; it knows the one after it.
  class Step;

  /// `decoder` must outlive the stream.
  explicit DecoderStream(const Decoder& decoder);
  ~DecoderStream();
  DecoderStream(DecoderStream&&) noexcept;
  DecoderStream& operator=(DecoderStream&&) noexcept;

  /// Appends to `text` what is certain once `token` is known. Throws FormatError where a tokenizer's replacements make
  /// the text more than 64 times longer.
  void push(std::string_view token, std::string& text);
  /// Appends the rest. Then the stream is at its end.
  void finish(std::string& text);

 private:
  struct State;

  std::unique_ptr<State> state_;
};

}  // namespace octet
