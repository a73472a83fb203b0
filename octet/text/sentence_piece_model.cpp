// SPDX-License-Identifier: Apache-2.0
#include "octet/text/sentence_piece_model.h"

#include <array>
#include <bit>
#include <cmath>
#include <unordered_set>

#include "octet/base/json.h"
#include "octet/text/protobuf_reader.h"
#include "octet/text/unicode.h"
#include "octet/text/vocabulary.h"

namespace octet {
namespace {

using File = SentencePieceFile;
using Field = ProtobufReader::Field;
using Wire = ProtobufReader::Wire;

bool is_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    if (unicode::decode_utf8(text, at) == unicode::kReplacement && text.substr(begin, at - begin) != "\uFFFD")
      return false;
  }
  return true;
}

File::Piece read_piece(ProtobufReader reader) {
  File::Piece piece;
  for (Field field; reader.next(field);) {
    switch (field.number) {
      case 1:
        piece.text = reader.require(field, Wire::kBytes).bytes;
        break;
      case 2:
        piece.score = std::bit_cast<float>(static_cast<uint32_t>(reader.require(field, Wire::kFixed32).value));
        break;
      case 3: {
        const uint64_t type = reader.require(field, Wire::kVarint).value;
        if (type < 1 || type > 6) reader.error(fmt::format("a piece has the type {}; there are 1 to 6", type));
        piece.type = static_cast<File::Type>(type);
        break;
      }
      default:
        break;
    }
  }
  return piece;
}

void read_trainer(ProtobufReader reader, File& file) {
  const auto text = [&](const Field& field) {
    const std::string_view bytes = reader.require(field, Wire::kBytes).bytes;
    if (bytes.size() > kLongestPiece || !is_utf8(bytes)) reader.error("the name of a piece is too long or not UTF-8");
    return std::string(bytes);
  };
  for (Field field; reader.next(field);) {
    switch (field.number) {
      case 3: {
        const uint64_t type = reader.require(field, Wire::kVarint).value;
        if (type != 1 && type != 2) {
          reader.error(fmt::format("the model type is {}; Octet reads 1 (Unigram) and 2 (BPE)", type));
        }
        file.algorithm = static_cast<File::Algorithm>(type);
        break;
      }
      case 24:
        file.treat_whitespace_as_suffix = reader.require(field, Wire::kVarint).value != 0;
        break;
      case 35:
        file.byte_fallback = reader.require(field, Wire::kVarint).value != 0;
        break;
      case 44:
        file.unknown_surface = text(field);
        break;
      case 46:
        file.bos_piece = text(field);
        break;
      case 47:
        file.eos_piece = text(field);
        break;
      default:
        break;
    }
  }
}

void read_normalizer(ProtobufReader reader, File& file) {
  for (Field field; reader.next(field);) {
    switch (field.number) {
      case 2:
        file.charsmap = reader.require(field, Wire::kBytes).bytes;
        break;
      case 3:
        file.add_dummy_prefix = reader.require(field, Wire::kVarint).value != 0;
        break;
      case 4:
        file.remove_extra_whitespaces = reader.require(field, Wire::kVarint).value != 0;
        break;
      case 5:
        file.escape_whitespaces = reader.require(field, Wire::kVarint).value != 0;
        break;
      default:
        break;
    }
  }
}

// Protocol Buffers' wire format, as far as a model needs it: fields are a varint, four bytes, or a length and bytes.
class ProtobufWriter {
 public:
  void varint(int field, uint64_t value) {
    key(field, 0);
    append(value);
  }
  void fixed32(int field, uint32_t value) {
    key(field, 5);
    for (int i = 0; i < 4; ++i) bytes_.push_back(static_cast<char>(value >> (8 * i) & 0xff));
  }
  void text(int field, std::string_view value) {
    key(field, 2);
    append(value.size());
    bytes_ += value;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void key(int field, int wire) { append(static_cast<uint64_t>(field << 3 | wire)); }
  void append(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_.push_back(static_cast<char>((value & 0x7f) | 0x80));
    bytes_.push_back(static_cast<char>(value));
  }

  std::string bytes_;
};

}  // namespace

SentencePieceFile read_sentence_piece_file(std::string_view contents, std::string_view source) {
  SentencePieceFile file;
  ProtobufReader reader(contents, source);
  for (Field field; reader.next(field);) {
    switch (field.number) {
      case 1:
        if (file.pieces.size() > size_t{kMaxTokenId}) reader.error(fmt::format("more than {} pieces", kMaxTokenId));
        file.pieces.push_back(read_piece(reader.inside(field)));
        break;
      case 2:
        read_trainer(reader.inside(field), file);
        break;
      case 3:
        read_normalizer(reader.inside(field), file);
        break;
      case 5: {
        SentencePieceFile denormalizer;
        read_normalizer(reader.inside(field), denormalizer);
        if (!denormalizer.charsmap.empty()) reader.error("the model changes decoded text, which Octet does not");
        break;
      }
      default:
        break;
    }
  }
  check_pieces(file, source);
  return file;
}

void check_pieces(SentencePieceFile& file, std::string_view source) {
  if (file.pieces.empty()) fail<FormatError>("{}: the model has no pieces", source);
  std::unordered_set<std::string_view> texts;
  bool has_unknown = false;
  size_t byte_pieces = 0;
  for (size_t id = 0; id < file.pieces.size(); ++id) {
    const File::Piece& piece = file.pieces[id];
    if (piece.text.empty()) fail<FormatError>("{}: piece {} has no text", source, id);
    if (piece.text.size() > kLongestPiece) {
      fail<FormatError>("{}: piece {} has {} bytes; Octet reads pieces of up to {}", source, id, piece.text.size(),
                        kLongestPiece);
    }
    if (!is_utf8(piece.text)) fail<FormatError>("{}: piece {} is not UTF-8", source, id);
    if (!std::isfinite(piece.score)) fail<FormatError>("{}: the score of piece {} is not a finite number", source, id);
    if (!texts.insert(piece.text).second) fail<FormatError>("{}: two pieces are {}", source, quote_name(piece.text));
    if (piece.type == File::Type::kUnknown) {
      if (has_unknown)
        fail<FormatError>("{}: the pieces {} and {} are both the unknown one", source, file.unknown_id, id);
      has_unknown = true;
      file.unknown_id = static_cast<int32_t>(id);
    }
    if (piece.type != File::Type::kByte) continue;
    if (!file.byte_fallback) {
      fail<FormatError>("{}: piece {} is a byte, but the model has no byte fallback", source, id);
    }
    const std::string& text = piece.text;
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>' ||
        kDigits.find(text[3]) == std::string_view::npos || kDigits.find(text[4]) == std::string_view::npos) {
      fail<FormatError>("{}: piece {} is the byte {}; bytes are <0x00> to <0xFF>", source, id, quote_name(text));
    }
    ++byte_pieces;
  }
  if (!has_unknown) fail<FormatError>("{}: no piece is the unknown one", source);
  if (file.byte_fallback && byte_pieces != 256) {
    fail<FormatError>("{}: the model has byte fallback, but {} of the 256 bytes", source, byte_pieces);
  }
}

std::string write_sentence_piece_file(const SentencePieceFile& file) {
  ProtobufWriter model;
  for (const File::Piece& piece : file.pieces) {
    ProtobufWriter one;
    one.text(1, piece.text);
    one.fixed32(2, std::bit_cast<uint32_t>(piece.score));
    one.varint(3, static_cast<uint64_t>(piece.type));
    model.text(1, one.bytes());
  }
  ProtobufWriter trainer;
  trainer.varint(3, static_cast<uint64_t>(file.algorithm));
  trainer.varint(24, file.treat_whitespace_as_suffix ? 1 : 0);
  trainer.varint(35, file.byte_fallback ? 1 : 0);
  trainer.text(44, file.unknown_surface);
  trainer.text(46, file.bos_piece);
  trainer.text(47, file.eos_piece);
  model.text(2, trainer.bytes());
  ProtobufWriter normalizer;
  normalizer.text(2, file.charsmap);
  normalizer.varint(3, file.add_dummy_prefix ? 1 : 0);
  normalizer.varint(4, file.remove_extra_whitespaces ? 1 : 0);
  normalizer.varint(5, file.escape_whitespaces ? 1 : 0);
  model.text(3, normalizer.bytes());
  return model.bytes();
}

}  // namespace octet
