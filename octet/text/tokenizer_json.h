// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "octet/text/decoder.h"
#include "octet/text/json_node.h"
#include "octet/text/normalizer.h"
#include "octet/text/pre_tokenizer.h"
#include "octet/text/token_model.h"
#include "octet/text/tokenizer.h"

/// The parts of a `tokenizer.json`. Each reader takes its member and throws FormatError, with the path, for what is
/// damaged or unknown.
namespace octet {

/// The whole of it.
TokenizerParts read_tokenizer_json(const nlohmann::json& document, std::string_view source);

Normalizer read_normalizer(const JsonNode& node);
PreTokenizer read_pre_tokenizer(const JsonNode& node);
Decoder read_decoder(const JsonNode& node);
std::shared_ptr<const TokenModel> read_model(const JsonNode& node);

/// {"token": id, …}; at least one, and no two with the same id. Also what a `vocab.json` is.
Vocabulary read_vocabulary(const JsonNode& node);

}  // namespace octet
