// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "octet/text/sentence_piece_model.h"
#include "octet/text/tokenizer.h"

namespace octet {

/// What a SentencePiece model says of its tokenizer: all but added tokens, and what begins and ends an input.
TokenizerParts sentence_piece_parts(const SentencePieceFile& file, std::string_view source);

}  // namespace octet
