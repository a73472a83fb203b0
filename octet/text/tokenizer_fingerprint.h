// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "octet/text/tokenizer.h"

namespace octet {

/// Tells tokenizers apart by what they do, whatever files they were read from: SHA-256, in hexadecimal digits, of every
/// token with its id, the template's tokens, and the tokens of a text that has letters of several scripts, both cases,
/// accents, digits, punctuation and white space of several kinds.
std::string tokenizer_fingerprint(const Tokenizer& tokenizer);

}  // namespace octet
