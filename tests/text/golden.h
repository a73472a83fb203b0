// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include <nlohmann/json.hpp>

#include "octet/base/json.h"
#include "octet/base/mapped_file.h"
#include "octet/text/tokenizer.h"

namespace octet {

inline std::string test_file(const std::string& name) {
  return read_text_file(std::filesystem::path(OCTET_TEST_FILES) / name, int64_t{1} << 24);
}

/// The tokenizer.json beside the tests, as a document to change.
inline const nlohmann::json& base_document() {
  static const nlohmann::json document = parse_json(test_file("tokenizer.json"), "the test");
  return document;
}

/// That tokenizer with some of its members replaced.
inline Tokenizer tokenizer_with(const nlohmann::json& overrides = nlohmann::json::object()) {
  nlohmann::json document = base_document();
  document.update(overrides);
  return Tokenizer::from_json(json_text(document), "tokenizer.json");
}

}  // namespace octet
