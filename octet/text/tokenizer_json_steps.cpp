// SPDX-License-Identifier: Apache-2.0
// The normalizer, pre-tokenizer and decoder of a tokenizer.json.
#include <string>
#include <utility>
#include <vector>

#include "octet/base/error.h"
#include "octet/text/tokenizer_json.h"

namespace octet {
namespace {

std::u32string code_points(std::string_view text) {
  std::u32string codes;
  for (const AlignedChar& c : align(text)) codes.push_back(c.code);
  return codes;
}

/// The members "type" and then `key`, an array, of a Sequence; sequences in a sequence are the same as their steps.
template <class Step, class Read>
void read_steps(const JsonNode& node, std::string_view key, std::vector<Step>& steps, const Read& read) {
  if (node.at("type").string() == "Sequence") {
    for (const JsonNode& element : node.at(key).elements()) read_steps(element, key, steps, read);
  } else {
    // Each step is a pass over every text; real files have up to five.
    constexpr size_t kMostSteps = 64;
    if (steps.size() == kMostSteps)
      node.error("is step {} of its sequence; Octet takes {}", kMostSteps + 1, kMostSteps);
    steps.push_back(read(node));
  }
}

Regex read_regex(const JsonNode& node) {
  try {
    return Regex::compile(node.string());
  } catch (const FormatError& error) {
    node.error("{}", error.what());
  }
}

/// A member that must be one character.
char32_t read_character(const JsonNode& node) {
  const std::u32string codes = code_points(node.string());
  if (codes.size() != 1) node.error("must be one character");
  return codes[0];
}

NormalizerStep read_normalizer_step(const JsonNode& node) {
  const std::string& type = node.at("type").string();
  if (type == "BertNormalizer") {
    BertNormalizer bert;
    bert.clean_text = node.at("clean_text").boolean();
    bert.handle_chinese_chars = node.at("handle_chinese_chars").boolean();
    bert.lowercase = node.at("lowercase").boolean();
    const auto strip_accents = node.find("strip_accents");
    bert.strip_accents = strip_accents ? strip_accents->boolean() : bert.lowercase;
    return bert;
  }
  if (type == "Lowercase") return LowercaseNormalizer{};
  if (type == "StripAccents") return StripAccentsNormalizer{};
  if (type == "NFC") return UnicodeNormalizer{NormalizationForm::kNfc};
  if (type == "NFD") return UnicodeNormalizer{NormalizationForm::kNfd};
  if (type == "NFKC") return UnicodeNormalizer{NormalizationForm::kNfkc};
  if (type == "NFKD") return UnicodeNormalizer{NormalizationForm::kNfkd};
  if (type == "Strip") return StripNormalizer{node.at("strip_left").boolean(), node.at("strip_right").boolean()};
  if (type == "Replace") {
    const JsonNode pattern = node.at("pattern");
    const std::u32string content = code_points(node.at("content").string());
    if (const auto regex = pattern.find("Regex")) return ReplaceNormalizer{read_regex(*regex), content};
    const JsonNode text = pattern.at("String");
    if (text.string().empty()) text.error("is empty; there is nothing to replace");
    return ReplaceNormalizer{code_points(text.string()), content};
  }
  if (type == "Prepend") {
    // It is put before every stretch of text between two added tokens.
    constexpr size_t kLongest = 1024;
    const JsonNode content = node.at("prepend");
    if (content.string().size() > kLongest) content.error("has more than {} bytes", kLongest);
    return PrependNormalizer{code_points(content.string())};
  }
  node.at("type").unsupported(
      "BertNormalizer, Lowercase, StripAccents, NFC, NFD, NFKC, NFKD, Strip, Replace, Prepend and Sequence");
}

SplitBehavior read_behavior(const JsonNode& node) {
  const std::string& name = node.string();
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  node.unsupported("Removed, Isolated, MergedWithPrevious, MergedWithNext and Contiguous");
}

/// The member "prepend_scheme" of a Metaspace, which older files write as "add_prefix_space".
MetaspaceSplit::Prepend read_prepend(const JsonNode& node) {
  using Prepend = MetaspaceSplit::Prepend;
  Prepend prepend = Prepend::kAlways;
  if (const auto scheme = node.find("prepend_scheme")) {
    const std::string& name = scheme->string();
    if (name == "first") {
      prepend = Prepend::kFirst;
    } else if (name == "never") {
      prepend = Prepend::kNever;
    } else if (name != "always") {
      scheme->unsupported("always, first and never");
    }
    const auto old = node.find("add_prefix_space");
    if (old && !old->boolean() && prepend != Prepend::kNever) old->error("is false, but prepend_scheme is '{}'", name);
  } else if (const auto old = node.find("add_prefix_space"); old && !old->boolean()) {
    prepend = Prepend::kNever;
  }
  return prepend;
}

PreTokenizerStep read_pre_tokenizer_step(const JsonNode& node) {
  const std::string& type = node.at("type").string();
  const auto flag = [&](std::string_view key, bool otherwise) {
    const auto member = node.find(key);
    return member ? member->boolean() : otherwise;
  };
  if (type == "BertPreTokenizer") return CharacterSplit::kBert;
  if (type == "Whitespace") return CharacterSplit::kWhitespace;
  if (type == "WhitespaceSplit") return CharacterSplit::kWhitespaceSplit;
  if (type == "Punctuation") {
    const auto behavior = node.find("behavior");
    return PunctuationSplit{behavior ? read_behavior(*behavior) : SplitBehavior::kIsolated};
  }
  if (type == "Digits") return DigitSplit{node.at("individual_digits").boolean()};
  if (type == "ByteLevel") {
    node.at("trim_offsets").boolean();  // the post-processor's; here it changes nothing
    return ByteLevelSplit{node.at("add_prefix_space").boolean(), flag("use_regex", true)};
  }
  if (type == "Metaspace") {
    return MetaspaceSplit{read_character(node.at("replacement")), read_prepend(node), flag("split", true)};
  }
  if (type == "Split") {
    const JsonNode pattern = node.at("pattern");
    const auto regex = pattern.find("Regex");
    return PatternSplit{regex ? read_regex(*regex) : Regex::literal(pattern.at("String").string()),
                        read_behavior(node.at("behavior")), node.at("invert").boolean()};
  }
  node.at("type").unsupported(
      "BertPreTokenizer, Whitespace, WhitespaceSplit, Punctuation, Digits, Split, ByteLevel, Metaspace and Sequence");
}

DecoderStep read_decoder_step(const JsonNode& node) {
  constexpr int64_t kMostStripped = int64_t{1} << 20;
  const std::string& type = node.at("type").string();
  if (type == "WordPiece") return WordPieceDecoder{node.at("prefix").string(), node.at("cleanup").boolean()};
  if (type == "ByteLevel") return ByteLevelDecoder{};
  if (type == "ByteFallback") return ByteFallbackDecoder{};
  if (type == "Fuse") return FuseDecoder{};
  if (type == "Strip") {
    return StripDecoder{read_character(node.at("content")), node.at("start").integer(0, kMostStripped),
                        node.at("stop").integer(0, kMostStripped)};
  }
  if (type == "Replace") {
    const JsonNode pattern = node.at("pattern");
    const std::string& content = node.at("content").string();
    if (const auto regex = pattern.find("Regex")) return ReplaceDecoder{read_regex(*regex), content};
    const JsonNode text = pattern.at("String");
    if (text.string().empty()) text.error("is empty; there is nothing to replace");
    return ReplaceDecoder{text.string(), content};
  }
  if (type == "Metaspace") {
    return MetaspaceDecoder{read_character(node.at("replacement")),
                            read_prepend(node) != MetaspaceSplit::Prepend::kNever};
  }
  if (type == "BPEDecoder") {
    const JsonNode suffix = node.at("suffix");
    if (suffix.string().empty()) suffix.error("is empty; no token ends a word");
    return SuffixDecoder{suffix.string()};
  }
  node.at("type").unsupported(
      "WordPiece, ByteLevel, ByteFallback, Fuse, Strip, Replace, Metaspace, BPEDecoder and Sequence");
}

}  // namespace

Normalizer read_normalizer(const JsonNode& node) {
  std::vector<NormalizerStep> steps;
  read_steps(node, "normalizers", steps, read_normalizer_step);
  return Normalizer(std::move(steps));
}

PreTokenizer read_pre_tokenizer(const JsonNode& node) {
  std::vector<PreTokenizerStep> steps;
  read_steps(node, "pretokenizers", steps, read_pre_tokenizer_step);
  return PreTokenizer(std::move(steps));
}

Decoder read_decoder(const JsonNode& node) {
  Decoder decoder{{}};
  read_steps(node, "decoders", decoder.steps, read_decoder_step);
  return decoder;
}

}  // namespace octet
