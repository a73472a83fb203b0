// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "octet/text/added_tokens.h"
#include "octet/text/decoder.h"
#include "octet/text/normalizer.h"
#include "octet/text/post_processor.h"
#include "octet/text/pre_tokenizer.h"
#include "octet/text/token_model.h"
#include "octet/text/truncation.h"

namespace octet {

class GgufFile;

/// What encode() makes of a text or a pair. All vectors have one entry a token.
struct Encoding {
  std::vector<int32_t> ids;
  std::vector<int32_t> type_ids;
  std::vector<uint8_t> special_tokens_mask;  ///< 1: a token that the template added
  /// The bytes [begin, end) of the original text (of a pair: of the one the token is from); [0, 0) for added special
  /// tokens.
  std::vector<std::pair<int64_t, int64_t>> offsets;
  std::vector<int8_t>
      sequence_ids;               ///< the text that a token is from: 0, of a pair also 1; -1 for added special tokens
  std::vector<int32_t> word_ids;  ///< which word of its text a token belongs to; -1 for added special tokens
  int64_t dropped = 0;            ///< tokens of the texts that truncation cut off
};

enum class SpecialTokens { kWith, kWithout };

struct EncodeOptions {
  /// Whether the template's special tokens ([CLS], [SEP]) are added. Those that stand in the text are always found.
  SpecialTokens special_tokens = SpecialTokens::kWith;
  /// None: the whole text, whatever the model's files say (see Tokenizer::truncation).
  std::optional<Truncation> truncation;
};

/// The padding that a `tokenizer.json` asks for. Octet runs ragged batches and never pads; exporters may want to know.
struct Padding {
  std::optional<int64_t> fixed_length;  ///< none: to the longest of the batch
  std::optional<int64_t> multiple_of;
  Truncation::Direction side = Truncation::Direction::kRight;
  int32_t id = 0, type_id = 0;
  std::string token;
};

/// What a tokenizer is made of; readers fill it.
struct TokenizerParts {
  std::shared_ptr<const TokenModel> model;
  AddedTokens added_tokens;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  PostProcessor post_processor;
  Decoder decoder;
  std::optional<Truncation> truncation;
  std::optional<Padding> padding;
  std::optional<int64_t> model_max_length;
  std::optional<int32_t> bos_id, eos_id, sep_id, mask_id;
};

/// Text to token ids and back, with the ids, offsets and type ids of the Hugging Face `tokenizers` library (0.23). A
/// const one is safe to use from many threads. Text is UTF-8; bytes that are not count as U+FFFD.
class Tokenizer {
 public:
  /// Reads the tokenizer of a GGUF file, or of a Hugging Face model directory, the first of these that is there:
  /// `tokenizer.json`; `tokenizer.model` or `spiece.model` (SentencePiece); `vocab.json` with `merges.txt`, or
  /// `encoder.json` with `vocab.bpe` (GPT-2); `vocab.txt` (BERT); a GGUF file that is the model there. The others take
  /// settings of `tokenizer_config.json` and `special_tokens_map.json`, which also name the tokens of bos_id() and
  /// eos_id(). Throws Error where there is none, FormatError for a file that is damaged or asks for something that
  /// Octet does not read.
  static Tokenizer load(const std::filesystem::path& model);
  /// Reads the contents of a `tokenizer.json`; errors name `source`.
  static Tokenizer from_json(std::string_view json, std::string_view source);
  /// Reads the contents of a BERT `vocab.txt` (one token a line) and of a `tokenizer_config.json` (empty: all
  /// defaults).
  static Tokenizer from_vocab_txt(std::string_view vocabulary, std::string_view vocabulary_source,
                                  std::string_view config_json, std::string_view config_source);
  /// Reads the contents of a byte-level BPE's `vocab.json` and `merges.txt` (GPT-2, or what the class in
  /// `tokenizer_config.json` says: Roberta, Qwen2).
  static Tokenizer from_vocab_and_merges(std::string_view vocabulary, std::string_view vocabulary_source,
                                         std::string_view merges, std::string_view merges_source,
                                         std::string_view config_json, std::string_view config_source);
  /// Reads the contents of a SentencePiece model (BPE or Unigram). Offsets are those of the sentencepiece library, but
  /// for the byte tokens of a character, which all have the character's.
  static Tokenizer from_sentence_piece(std::string_view model, std::string_view source, std::string_view config_json,
                                       std::string_view config_source);

  /// Reads a byte-level or SentencePiece BPE from a GGUF file's metadata. The latter's control tokens are found in
  /// texts.
  static Tokenizer from_gguf(const GgufFile& file);

  explicit Tokenizer(TokenizerParts parts) : parts_(std::move(parts)) {}

  /// Throws UsageError where the truncation asked for is impossible, Error for a text of 4 GiB or more.
  Encoding encode(std::string_view text, const EncodeOptions& options = {}) const;
  Encoding encode_pair(std::string_view first, std::string_view second, const EncodeOptions& options = {}) const;

  /// The first encoding is what encode() gives; the others go through what truncation cuts off, in windows that overlap
  /// by truncation.stride (for question answering). Of a pair cut on both sides: every window of one with every one of
  /// the other. `dropped` counts, in each, the tokens that are in other windows.
  std::vector<Encoding> encode_windows(std::string_view text, const EncodeOptions& options) const;
  std::vector<Encoding> encode_pair_windows(std::string_view first, std::string_view second,
                                            const EncodeOptions& options) const;

  /// The text of some ids. kWithout leaves special tokens out. Throws UsageError for an id that is not in the
  /// vocabulary.
  std::string decode(std::span<const int32_t> ids, SpecialTokens special_tokens = SpecialTokens::kWithout) const;

  /// Different tokens, added ones included.
  int64_t vocab_size() const;
  /// The largest id: an embedding needs a row more than that.
  int32_t max_id() const;
  std::optional<int32_t> token_to_id(std::string_view token) const;
  std::optional<std::string_view> id_to_token(int32_t id) const;
  bool is_special(int32_t id) const { return parts_.added_tokens.is_special(id); }
  /// The tokens that begin and end a text, as the model's files name them; none where they name none, or one that is
  /// not in the vocabulary.
  std::optional<int32_t> bos_id() const { return parts_.bos_id; }
  std::optional<int32_t> eos_id() const { return parts_.eos_id; }
  /// The tokens that end a text of a pair and that stand for a hidden one (encoders), in the same way.
  std::optional<int32_t> sep_id() const { return parts_.sep_id; }
  std::optional<int32_t> mask_id() const { return parts_.mask_id; }
  const Decoder& decoder() const { return parts_.decoder; }
  /// The special tokens that the template puts before and after a text.
  struct Frame {
    std::vector<int32_t> before, after;
  };
  Frame frame() const;

  /// The truncation of the model's `tokenizer.json`: apply it by handing it to encode().
  const std::optional<Truncation>& truncation() const { return parts_.truncation; }
  const std::optional<Padding>& padding() const { return parts_.padding; }
  /// `model_max_length` of `tokenizer_config.json`; none where it is absent or a number that means "no limit".
  std::optional<int64_t> model_max_length() const { return parts_.model_max_length; }

 private:
  struct Tokens;
  enum class Windows { kFirst, kAll };

  Tokens tokenize(std::string_view text) const;
  /// What PostProcessor::trim_offsets asks for, on the tokens from `first` on, which are those of `text`.
  void trim_offsets(Encoding& encoding, size_t first, std::string_view text) const;
  std::vector<Encoding> run(std::string_view first, const std::string_view* second, const EncodeOptions& options,
                            Windows which) const;

  TokenizerParts parts_;
};

}  // namespace octet
