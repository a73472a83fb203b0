// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "octet/io/config.h"
#include "octet/io/gguf_reader.h"
#include "octet/io/gguf_writer.h"
#include "octet/text/sentence_piece_model.h"

/// The tokenizer in a GGUF file's metadata, as the files that it was made from. tokenizer.ggml.model says which:
/// "gpt2", a byte-level BPE, or "llama", a SentencePiece BPE.
namespace octet {

enum class GgufTokenizerKind { kByteLevelBpe, kSentencePiece };
/// Throws FormatError for a file without a tokenizer, and for kinds that Octet does not have.
GgufTokenizerKind gguf_tokenizer_kind(const GgufFile& file);

/// A byte-level BPE as a tokenizer.json. How text is split into words is known by the name in tokenizer.ggml.pre, and
/// is what Hugging Face's tokenizers of those models do.
nlohmann::json gguf_byte_level_bpe(const GgufFile& file);
/// A SentencePiece BPE as its .model.
SentencePieceFile gguf_sentence_piece(const GgufFile& file);

/// The tokenizer as the files of a Hugging Face directory, their contents by their names: tokenizer.json or
/// tokenizer.model, and tokenizer_config.json.
std::map<std::string, std::string> gguf_tokenizer_files(const GgufFile& file);

/// Adds the tokenizer of a Hugging Face directory to a file's metadata: a byte-level BPE from tokenizer.json, or else a
/// SentencePiece BPE from tokenizer.model, for a model of so many tokens; what frames a text, and the chat template.
/// Throws FormatError for one that GGUF has no words for.
void write_gguf_tokenizer(GgufWriter& writer, const std::filesystem::path& folder, const Config& config,
                          int64_t vocabulary);

/// What a name in tokenizer.ggml.pre stands for: the members of a tokenizer.json that it fixes.
struct GgufPreTokenizer {
  nlohmann::json normalizer, pre_tokenizer;
  bool ignore_merges = false;
  bool add_bos = false;  ///< where the metadata do not say
};
/// Throws FormatError, which names `source`, for a name that is not known.
GgufPreTokenizer gguf_pre_tokenizer(std::string_view name, bool add_prefix_space, std::string_view source);
/// Whether a tokenizer.json is one of a byte-level BPE; and the name of its words. Throws FormatError where there is
/// none.
bool is_byte_level_bpe(const nlohmann::json& tokenizer_json);
std::string gguf_pre_tokenizer_name(const nlohmann::json& tokenizer_json, std::string_view source);

}  // namespace octet
