// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace octet {

/// What a SentencePiece `.model` says (sentencepiece_model.proto), as far as tokenizing needs it.
struct SentencePieceFile {
  enum class Type { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };
  enum class Algorithm { kUnigram = 1, kBpe = 2 };

  struct Piece {
    std::string text;
    float score = 0;
    Type type = Type::kNormal;

    /// Whether text can become it: the others only stand for something.
    bool is_text() const { return type == Type::kNormal || type == Type::kUserDefined || type == Type::kUnused; }
  };

  std::vector<Piece> pieces;  ///< by id; no two with the same text, exactly one unknown
  int32_t unknown_id = 0;
  Algorithm algorithm = Algorithm::kUnigram;
  bool byte_fallback = false;  ///< then there are all 256 byte pieces, else none
  bool treat_whitespace_as_suffix = false;
  std::string bos_piece = "<s>", eos_piece = "</s>";
  std::string unknown_surface = " \u2047 ";

  std::string charsmap;  ///< normalizer_spec.precompiled_charsmap
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
};

/// A longer piece than this would make every character of a hostile text take long; real ones have up to 64 bytes.
inline constexpr size_t kLongestPiece = 1024;

/// Sets unknown_id. Throws FormatError where the pieces, whoever read them, are not what SentencePieceFile says.
void check_pieces(SentencePieceFile& file, std::string_view source);

/// Throws FormatError where the contents are damaged, contradict themselves, or ask for what Octet does not do.
SentencePieceFile read_sentence_piece_file(std::string_view contents, std::string_view source);
/// The contents of a `.model` that says what `file` does.
std::string write_sentence_piece_file(const SentencePieceFile& file);

}  // namespace octet
