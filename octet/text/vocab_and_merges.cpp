// SPDX-License-Identifier: Apache-2.0
// Reads a byte-level BPE as GPT-2's code wrote it: a JSON of tokens and ids, and a text of merges.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/text/bpe.h"
#include "octet/text/tokenizer.h"
#include "octet/text/tokenizer_config.h"
#include "octet/text/tokenizer_json.h"

namespace octet {
namespace {

/// Lines "a b"; one that begins with "#version" says nothing.
std::vector<BpeMerge> read_merges(std::string_view text, std::string_view source, const Vocabulary& vocabulary) {
  std::vector<BpeMerge> merges;
  std::string missing;
  size_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with("#version") || line.empty()) continue;
    const size_t space = line.find(' ');
    if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
      fail<FormatError>("{}: line {} is {}, not two tokens with a space between them", source, number,
                        quote_name(line));
    }
    const auto merge = find_merge(vocabulary, line.substr(0, space), line.substr(space + 1), 0, missing);
    if (!merge) {
      fail<FormatError>("{}: line {} merges {}, but {} is not in the vocabulary", source, number, quote_name(line),
                        quote_name(missing));
    }
    merges.push_back(*merge);
  }
  return merges;
}

constexpr std::string_view kQwen2Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

}  // namespace

Tokenizer Tokenizer::from_vocab_and_merges(std::string_view vocabulary_text, std::string_view vocabulary_source,
                                           std::string_view merges_text, std::string_view merges_source,
                                           std::string_view config_json, std::string_view config_source) {
  const nlohmann::json document = parse_json(vocabulary_text, std::string(vocabulary_source));
  const nlohmann::json config_document = parse_config(config_json, config_source);
  const JsonNode config(config_document, config_source);
  Vocabulary vocabulary = read_vocabulary(JsonNode(document, vocabulary_source));
  const std::vector<BpeMerge> merges = read_merges(merges_text, merges_source, vocabulary);

  const auto class_node = config.find("tokenizer_class");
  const std::string_view class_name = class_node ? std::string_view(class_node->string()) : "GPT2Tokenizer";
  const bool roberta = class_name.starts_with("Roberta"), qwen2 = class_name.starts_with("Qwen2");

  std::vector<AddedToken> added = read_added_tokens_decoder(config, vocabulary, vocabulary_source);
  // A special token that the configuration names, or the class; its id, where the vocabulary has it.
  const auto special = [&](std::string_view key, std::string_view otherwise) -> std::optional<int32_t> {
    AddedToken token;
    token.content = otherwise;
    token.special = true;
    if (config.value().contains(key)) {
      const auto node = config.find(key);
      if (!node) return std::nullopt;  // null: none
      token = read_special_token(*node);
    }
    const auto same = [&](const AddedToken& other) { return other.content == token.content; };
    if (const auto known = std::find_if(added.begin(), added.end(), same); known != added.end()) return known->id;
    const auto id = vocabulary.token_to_id(token.content);
    if (!id || token.content.empty()) return std::nullopt;
    token.id = *id;
    added.push_back(std::move(token));
    return id;
  };

  TokenizerParts parts;
  constexpr std::string_view kEnd = "<|endoftext|>";
  parts.bos_id = special("bos_token", roberta ? "<s>" : qwen2 ? "" : kEnd);
  parts.eos_id = special("eos_token", roberta ? "</s>" : kEnd);
  const auto unknown = special("unk_token", roberta ? "<unk>" : kEnd);
  special("pad_token", roberta ? "<pad>" : "");
  parts.mask_id = special("mask_token", roberta ? "<mask>" : "");
  const bool add_prefix_space = read_flag(config, "add_prefix_space", false);
  if (qwen2) {
    parts.normalizer = Normalizer({UnicodeNormalizer{NormalizationForm::kNfc}});
    parts.pre_tokenizer = PreTokenizer({PatternSplit{Regex::compile(kQwen2Words), SplitBehavior::kIsolated, false},
                                        ByteLevelSplit{add_prefix_space, false}});
  } else {
    parts.pre_tokenizer = PreTokenizer({ByteLevelSplit{add_prefix_space, true}});
  }
  if (roberta) {
    const auto cls = special("cls_token", "<s>"), sep = special("sep_token", "</s>");
    if (!cls || !sep) {
      fail<FormatError>("{}: the tokens '<s>' and '</s>' of a {} are not there", vocabulary_source, class_name);
    }
    parts.sep_id = sep;
    parts.post_processor = PostProcessor::roberta(*cls, *sep);
    parts.post_processor.trim_offsets = PostProcessor::TrimOffsets{add_prefix_space};
  } else if (read_flag(config, "add_bos_token", false)) {
    if (!parts.bos_id) fail<FormatError>("{}: add_bos_token is true, but there is no bos_token", config_source);
    parts.post_processor = PostProcessor::frame(parts.bos_id, std::nullopt);
  }
  parts.decoder.steps = {ByteLevelDecoder{}};
  BpeOptions options;
  // A byte that the vocabulary does not have.
  options.unknown = unknown;
  parts.model = std::make_shared<Bpe>(std::move(vocabulary), merges, std::move(options));
  parts.added_tokens = AddedTokens(std::move(added), parts.normalizer);
  return Tokenizer(std::move(parts));
}

}  // namespace octet
