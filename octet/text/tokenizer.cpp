// SPDX-License-Identifier: Apache-2.0
#include "octet/text/tokenizer.h"

#include <algorithm>
#include <array>

#include "octet/base/error.h"
#include "octet/base/mapped_file.h"
#include "octet/io/gguf_reader.h"
#include "octet/text/byte_level.h"
#include "octet/text/stream_decoder.h"
#include "octet/text/tokenizer_config.h"
#include "octet/text/unicode.h"

namespace octet {

/// The tokens of one text, before special ones are added.
struct Tokenizer::Tokens {
  std::vector<int32_t> ids, word_ids;
  std::vector<std::pair<int64_t, int64_t>> offsets;

  int64_t size() const { return static_cast<int64_t>(ids.size()); }
};

namespace {

// The largest tokenizer.json known to us has 34 MB (a vocabulary of 262,144); the parsed form takes several times as
// much.
constexpr int64_t kMaxFileBytes = int64_t{64} << 20;

bool is_there(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

}  // namespace

Tokenizer Tokenizer::load(const std::filesystem::path& model) {
  if (is_gguf_name(model)) return from_gguf(GgufFile::open(model));
  const std::filesystem::path& directory = model;
  const auto read = [](const std::filesystem::path& path) { return read_text_file(path, kMaxFileBytes); };
  const auto read_if_there = [&](const std::filesystem::path& path) {
    return is_there(path) ? read(path) : std::string();
  };
  const std::filesystem::path config = directory / "tokenizer_config.json",
                              special = directory / "special_tokens_map.json";
  const std::string config_text = read_if_there(config);
  const auto load_parts = [&]() -> std::optional<Tokenizer> {
    if (const auto json = directory / "tokenizer.json"; is_there(json)) return from_json(read(json), json.string());
    for (const char* name : {"tokenizer.model", "spiece.model"}) {
      const auto pieces = directory / name;
      if (is_there(pieces)) return from_sentence_piece(read(pieces), pieces.string(), config_text, config.string());
    }
    for (const auto& [vocabulary_name, merges_name] : std::array<std::pair<const char*, const char*>, 2>{
             {{"vocab.json", "merges.txt"}, {"encoder.json", "vocab.bpe"}}}) {
      const auto vocabulary = directory / vocabulary_name, merges = directory / merges_name;
      if (is_there(vocabulary) && is_there(merges)) {
        return from_vocab_and_merges(read(vocabulary), vocabulary.string(), read(merges), merges.string(), config_text,
                                     config.string());
      }
    }
    if (const auto vocabulary = directory / "vocab.txt"; is_there(vocabulary)) {
      return from_vocab_txt(read(vocabulary), vocabulary.string(), config_text, config.string());
    }
    return std::nullopt;
  };
  std::optional<Tokenizer> tokenizer = load_parts();
  if (!tokenizer) {
    if (const auto gguf = find_gguf(directory)) return from_gguf(GgufFile::open(*gguf));
    fail(
        "{}: no tokenizer.json, tokenizer.model, vocab.json with merges.txt, or vocab.txt there; name the directory of "
        "a "
        "Hugging Face model",
        directory.string());
  }
  TokenizerParts& parts = tokenizer->parts_;
  parts.model_max_length = read_model_max_length(config_text, config.string());
  const std::string special_text = read_if_there(special);
  const auto find_id = [&](std::string_view key, std::optional<int32_t>& id) {
    auto token = read_token_name(config_text, config.string(), key);
    if (!token) token = read_token_name(special_text, special.string(), key);
    if (token) id = tokenizer->token_to_id(*token);
  };
  find_id("bos_token", parts.bos_id);
  find_id("eos_token", parts.eos_id);
  find_id("sep_token", parts.sep_id);
  find_id("mask_token", parts.mask_id);
  return *std::move(tokenizer);
}

Tokenizer::Frame Tokenizer::frame() const {
  Frame frame;
  bool after = false;
  for (const TemplatePiece& piece : parts_.post_processor.single) {
    if (piece.kind != TemplatePiece::Kind::kSpecial) {
      after = true;
      continue;
    }
    std::vector<int32_t>& ids = after ? frame.after : frame.before;
    ids.insert(ids.end(), piece.ids.begin(), piece.ids.end());
  }
  return frame;
}

Tokenizer::Tokens Tokenizer::tokenize(std::string_view text) const {
  Tokens tokens;
  int32_t word_id = 0;
  const auto push = [&](int32_t id, const AlignedChar& first, const AlignedChar& last) {
    tokens.ids.push_back(id);
    tokens.offsets.emplace_back(first.begin, last.end);
    tokens.word_ids.push_back(word_id);
  };
  std::string word;
  std::vector<ModelToken> pieces;
  const auto tokenize_word = [&](std::span<const AlignedChar> chars) {
    word.clear();
    for (const AlignedChar& c : chars) unicode::append_utf8(word, c.code);
    pieces.clear();
    parts_.model->tokenize(word, pieces);
    // Pieces come in order, so one walk over the characters turns their bytes into places of the original text.
    size_t at = 0, byte = 0;
    const auto byte_after = [&](size_t i) { return byte + unicode::utf8_size(chars[i].code); };
    for (const ModelToken& piece : pieces) {
      while (at + 1 < chars.size() && byte_after(at) <= piece.begin) byte = byte_after(at++);
      const size_t first = at;
      while (at + 1 < chars.size() && byte_after(at) < piece.end) byte = byte_after(at++);
      push(piece.id, chars[first], chars[at]);
    }
  };

  const AlignedText raw = align(text);
  for (const AddedTokens::Segment& outer : parts_.added_tokens.split(raw, AddedTokens::Stage::kRaw)) {
    if (outer.id >= 0) {
      push(outer.id, raw[outer.range.begin], raw[outer.range.end - 1]);
      ++word_id;
      continue;
    }
    AlignedText normalized(raw.begin() + static_cast<std::ptrdiff_t>(outer.range.begin),
                           raw.begin() + static_cast<std::ptrdiff_t>(outer.range.end));
    parts_.normalizer.apply(normalized);
    const std::span<const AlignedChar> chars = normalized;
    for (const AddedTokens::Segment& inner : parts_.added_tokens.split(chars, AddedTokens::Stage::kNormalized)) {
      const auto segment = chars.subspan(inner.range.begin, inner.range.end - inner.range.begin);
      if (inner.id >= 0) {
        push(inner.id, segment.front(), segment.back());
        ++word_id;
        continue;
      }
      const PreTokenizedText words = parts_.pre_tokenizer.split(AlignedText(segment.begin(), segment.end()));
      for (const CharRange& range : words.words) {
        tokenize_word(std::span(words.text).subspan(range.begin, range.end - range.begin));
        ++word_id;
      }
    }
  }
  return tokens;
}

void Tokenizer::trim_offsets(Encoding& encoding, size_t first, std::string_view text) const {
  const auto is_inside = [&](int64_t byte) {
    return byte > 0 && byte < static_cast<int64_t>(text.size()) &&
           (static_cast<unsigned char>(text[static_cast<size_t>(byte)]) & 0xC0) == 0x80;
  };
  for (size_t i = first; i < encoding.ids.size(); ++i) {
    const std::string_view token = id_to_token(encoding.ids[i]).value_or(std::string_view());
    auto& [begin, end] = encoding.offsets[i];
    size_t leading = byte_level::leading_spaces(token);
    const bool is_first = i == first || begin == 0;
    if (is_first && parts_.post_processor.trim_offsets->add_prefix_space && leading == 1) leading = 0;
    // The library counts characters of the text, and takes one for each space of the token, whatever it is.
    for (; leading > 0 && begin < end; --leading) {
      do ++begin;
      while (begin < end && is_inside(begin));
    }
    int64_t trimmed = end;
    size_t trailing = byte_level::trailing_spaces(token);
    for (; trailing > 0 && trimmed > 0; --trailing) {
      do --trimmed;
      while (is_inside(trimmed));
    }
    if (trailing == 0) end = std::max(trimmed, begin);
  }
}

std::vector<Encoding> Tokenizer::run(std::string_view first, const std::string_view* second,
                                     const EncodeOptions& options, Windows which) const {
  using Kind = TemplatePiece::Kind;
  const std::array<std::string_view, 2> originals{first, second ? *second : std::string_view()};
  const std::array<Tokens, 2> texts{tokenize(first), second ? tokenize(*second) : Tokens()};
  const std::vector<TemplatePiece>& pieces = second ? parts_.post_processor.pair : parts_.post_processor.single;
  const bool with_special = options.special_tokens == SpecialTokens::kWith;

  std::array<std::vector<TokenRange>, 2> ranges{{{{0, texts[0].size()}}, {{0, texts[1].size()}}}};
  if (options.truncation) {
    const Truncation& truncation = *options.truncation;
    const int64_t special = with_special ? special_token_count(pieces) : 0;
    if (truncation.max_length < special) {
      fail<UsageError>("a maximum length of {} tokens leaves no room for the {} special tokens", truncation.max_length,
                       special);
    }
    const KeptLengths kept = kept_lengths(texts[0].size(), second ? std::optional(texts[1].size()) : std::nullopt,
                                          truncation.max_length - special, truncation.strategy);
    for (size_t i = 0; i < 2; ++i) {
      const int64_t length = texts[i].size(), keep = i == 0 ? kept.first : kept.second;
      if (which == Windows::kAll) {
        ranges[i] = windows(length, keep, truncation.stride, truncation.direction);
      } else {
        ranges[i] = {first_window(length, keep, truncation.direction)};
      }
    }
  }

  const auto assemble = [&](std::array<TokenRange, 2> kept) {
    Encoding encoding;
    for (const TemplatePiece& piece : pieces) {
      if (piece.kind == Kind::kSpecial) {
        if (!with_special) continue;
        const size_t count = piece.ids.size();
        encoding.ids.insert(encoding.ids.end(), piece.ids.begin(), piece.ids.end());
        encoding.type_ids.insert(encoding.type_ids.end(), count, piece.type_id);
        encoding.special_tokens_mask.insert(encoding.special_tokens_mask.end(), count, 1);
        encoding.offsets.insert(encoding.offsets.end(), count, {0, 0});
        encoding.word_ids.insert(encoding.word_ids.end(), count, -1);
        encoding.sequence_ids.insert(encoding.sequence_ids.end(), count, -1);
        continue;
      }
      const size_t place = piece.kind == Kind::kFirst ? 0 : 1;
      const Tokens& tokens = texts[place];
      const TokenRange range = kept[place];
      const auto append = [&](auto& to, const auto& from) {
        to.insert(to.end(), from.begin() + range.begin, from.begin() + range.end);
      };
      append(encoding.ids, tokens.ids);
      append(encoding.offsets, tokens.offsets);
      append(encoding.word_ids, tokens.word_ids);
      encoding.type_ids.resize(encoding.ids.size(), piece.type_id);
      encoding.sequence_ids.resize(encoding.ids.size(), static_cast<int8_t>(place));
      encoding.special_tokens_mask.resize(encoding.ids.size(), 0);
      if (parts_.post_processor.trim_offsets)
        trim_offsets(encoding, encoding.ids.size() - static_cast<size_t>(range.end - range.begin), originals[place]);
    }
    for (size_t i = 0; i < 2; ++i) encoding.dropped += texts[i].size() - (kept[i].end - kept[i].begin);
    return encoding;
  };

  // Order of the windows: the first of each; then the others of the text that comes first in the template, each with
  // all of the other text's; then its first with the other text's others.
  const auto leads =
      std::find_if(pieces.begin(), pieces.end(), [](const auto& piece) { return piece.kind != Kind::kSpecial; });
  const size_t outer = leads != pieces.end() && leads->kind == Kind::kSecond ? 1 : 0, inner = 1 - outer;
  std::vector<Encoding> encodings;
  const auto add = [&](size_t outer_window, size_t inner_window) {
    std::array<TokenRange, 2> kept{};
    kept[outer] = ranges[outer][outer_window];
    kept[inner] = ranges[inner][inner_window];
    encodings.push_back(assemble(kept));
  };
  add(0, 0);
  for (size_t i = 1; i < ranges[outer].size(); ++i) {
    for (size_t j = 0; j < ranges[inner].size(); ++j) add(i, j);
  }
  for (size_t j = 1; j < ranges[inner].size(); ++j) add(0, j);
  return encodings;
}

Encoding Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  return std::move(run(text, nullptr, options, Windows::kFirst).front());
}

Encoding Tokenizer::encode_pair(std::string_view first, std::string_view second, const EncodeOptions& options) const {
  return std::move(run(first, &second, options, Windows::kFirst).front());
}

std::vector<Encoding> Tokenizer::encode_windows(std::string_view text, const EncodeOptions& options) const {
  return run(text, nullptr, options, Windows::kAll);
}

std::vector<Encoding> Tokenizer::encode_pair_windows(std::string_view first, std::string_view second,
                                                     const EncodeOptions& options) const {
  return run(first, &second, options, Windows::kAll);
}

std::string Tokenizer::decode(std::span<const int32_t> ids, SpecialTokens special_tokens) const {
  StreamDecoder decoder(*this, special_tokens);
  std::string text;
  for (const int32_t id : ids) text += decoder.push(id);
  text += decoder.finish();
  return text;
}

int64_t Tokenizer::vocab_size() const {
  const auto& added = parts_.added_tokens.tokens();
  return parts_.model->vocabulary().size() + std::count_if(added.begin(), added.end(), [&](const AddedToken& token) {
           return !parts_.model->vocabulary().token_to_id(token.content);
         });
}

int32_t Tokenizer::max_id() const {
  int32_t id = parts_.model->vocabulary().max_id();
  for (const AddedToken& token : parts_.added_tokens.tokens()) id = std::max(id, token.id);
  return id;
}

std::optional<int32_t> Tokenizer::token_to_id(std::string_view token) const {
  const std::optional<int32_t> added = parts_.added_tokens.token_to_id(token);
  return added ? added : parts_.model->vocabulary().token_to_id(token);
}

std::optional<std::string_view> Tokenizer::id_to_token(int32_t id) const {
  const std::optional<std::string_view> added = parts_.added_tokens.id_to_token(id);
  return added ? added : parts_.model->vocabulary().id_to_token(id);
}

}  // namespace octet
