// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/octet/command_line.h"
#include "octet/text/chat_template.h"
#include "octet/text/tokenizer.h"

namespace octet::cli {

/// --system and --template: how what people say becomes a prompt.
struct ChatPromptOptions {
  std::optional<std::string> system, template_file;

  void add_to(Command command);
  /// The template of the file, else of the model. Throws Error, naming --template, where there is none.
  ChatTemplate load_template(const std::string& model) const;
};

/// The tokens of a conversation that the model is to answer. The template writes the special tokens, so the tokenizer
/// adds none.
std::vector<int32_t> encode_chat(const ChatTemplate& chat_template, const Tokenizer& tokenizer,
                                 nlohmann::ordered_json messages);

/// Adds the tokenizer's end-of-text token, with which many models end an answer whatever their configs name.
void add_answer_end(std::vector<int32_t>& stop_ids, const Tokenizer& tokenizer);

/// {"role": …, "content": …}
nlohmann::ordered_json chat_message(const char* role, const std::string& content);

}  // namespace octet::cli
