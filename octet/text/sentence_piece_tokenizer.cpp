// SPDX-License-Identifier: Apache-2.0
// A tokenizer of a SentencePiece model.
#include "octet/text/sentence_piece_tokenizer.h"

#include <charconv>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "octet/base/error.h"
#include "octet/text/sentence_piece.h"
#include "octet/text/tokenizer.h"
#include "octet/text/tokenizer_config.h"

namespace octet {
namespace {

using Type = SentencePieceFile::Type;

SentencePieceDecoder decoder_of(const SentencePieceFile& file) {
  auto pieces = std::make_shared<SentencePieceDecoder::Pieces>();
  pieces->unknown_text = file.unknown_surface;
  for (const SentencePieceFile::Piece& piece : file.pieces) {
    if (piece.type == Type::kControl) pieces->control.insert(piece.text);
    if (piece.type == Type::kUnknown) pieces->unknown = piece.text;
    if (piece.type == Type::kByte) {
      unsigned char byte = 0;
      std::from_chars(piece.text.data() + 3, piece.text.data() + 5, byte, 16);
      pieces->bytes.emplace(piece.text, byte);
    }
  }
  return {std::move(pieces), file.add_dummy_prefix || file.remove_extra_whitespaces, file.remove_extra_whitespaces};
}

}  // namespace

TokenizerParts sentence_piece_parts(const SentencePieceFile& file, std::string_view source) {
  std::vector<std::pair<std::string, int32_t>> user_defined;
  for (const SentencePieceFile::Piece& piece : file.pieces) {
    if (piece.type == Type::kUserDefined) user_defined.emplace_back(piece.text, 0);
  }
  const auto user_defined_index = std::make_shared<const PieceIndex>(std::move(user_defined));

  TokenizerParts parts;
  parts.normalizer = Normalizer({SentencePieceNormalizer{
      std::make_shared<const CharsMap>(file.charsmap, source), user_defined_index, file.add_dummy_prefix,
      file.remove_extra_whitespaces, file.escape_whitespaces, file.treat_whitespace_as_suffix}});
  if (file.algorithm == SentencePieceFile::Algorithm::kBpe) {
    parts.model = std::make_shared<SentencePieceBpe>(file, user_defined_index);
  } else {
    parts.model = std::make_shared<SentencePieceUnigram>(file);
  }
  parts.decoder.steps = {decoder_of(file)};
  return parts;
}

Tokenizer Tokenizer::from_sentence_piece(std::string_view model, std::string_view source, std::string_view config_json,
                                         std::string_view config_source) {
  const nlohmann::json config_document = parse_config(config_json, config_source);
  const JsonNode config(config_document, config_source);
  const SentencePieceFile file = read_sentence_piece_file(model, source);
  TokenizerParts parts = sentence_piece_parts(file, source);
  parts.added_tokens =
      AddedTokens(read_added_tokens_decoder(config, parts.model->vocabulary(), source), parts.normalizer);

  const auto control = [&](const std::string& text) -> std::optional<int32_t> {
    const auto id = parts.model->vocabulary().token_to_id(text);
    return id && file.pieces[static_cast<size_t>(*id)].type == Type::kControl ? id : std::nullopt;
  };
  const auto named = [&](std::string_view key, const std::string& otherwise) {
    const auto node = config.find(key);
    if (!node) return control(otherwise);
    const std::string content = read_special_token(*node).content;
    const auto added = parts.added_tokens.token_to_id(content);
    return added ? added : parts.model->vocabulary().token_to_id(content);
  };
  parts.bos_id = named("bos_token", file.bos_piece);
  parts.eos_id = named("eos_token", file.eos_piece);
  // What begins and ends an input is not in the model. Without a word of the configuration: Llama's habit for BPE, T5's
  // for Unigram.
  const bool bpe = file.algorithm == SentencePieceFile::Algorithm::kBpe;
  const bool add_bos = read_flag(config, "add_bos_token", bpe), add_eos = read_flag(config, "add_eos_token", !bpe);
  parts.post_processor =
      PostProcessor::frame(add_bos ? parts.bos_id : std::nullopt, add_eos ? parts.eos_id : std::nullopt);
  return Tokenizer(std::move(parts));
}

}  // namespace octet
