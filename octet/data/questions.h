// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace octet {

/// A question with the answers to choose from.
struct MultipleChoice {
  std::string context;               ///< may be empty
  std::vector<std::string> choices;  ///< at least two, none empty
  size_t answer = 0;                 ///< index of the right one
  std::string source;                ///< "arc.jsonl: line 7", for messages
};

/// A text whose last word is to be predicted from the others.
struct Passage {
  std::string text;
  std::string source;
};

/// Reads a file with a JSON object a line (empty lines count for nothing), at least one of them:
///
///   "context", "query", "question" or "ctx"   text before the choices
///   "choices" or "endings"                    a list of texts, or {"text": [texts], "label": [their names]}
///   "answer", "label", "gold" or "answerKey"  index of the right choice from 0, as a number or a text; its name, where
///                                             choices have names
///
/// That takes HellaSwag's and ARC's files and what lm-evaluation-harness writes. Other keys are passed over. Only the
/// first `limit` objects are read. Throws Error where the file cannot be read, FormatError naming file and line for
/// anything else.
std::vector<MultipleChoice> read_multiple_choice(const std::filesystem::path& path, std::optional<int64_t> limit = {});

/// The same for objects with a "text" (LAMBADA).
std::vector<Passage> read_passages(const std::filesystem::path& path, std::optional<int64_t> limit = {});

/// One line of such files; `source` names it.
MultipleChoice parse_multiple_choice(std::string_view line, const std::string& source);
Passage parse_passage(std::string_view line, const std::string& source);

}  // namespace octet
