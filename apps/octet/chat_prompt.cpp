// SPDX-License-Identifier: Apache-2.0
#include "apps/octet/chat_prompt.h"

#include <algorithm>
#include <utility>

#include "octet/base/error.h"
#include "octet/base/mapped_file.h"

namespace octet::cli {

void ChatPromptOptions::add_to(Command command) {
  command.add_option("--system", system, "The system message: how the model is to behave").type_name("TEXT");
  command
      .add_option("--template", template_file,
                  "A chat template (Jinja) in place of the model's own (chat_template.jinja, in tokenizer_config.json "
                  "or a GGUF file)")
      .type_name("FILE");
}

ChatTemplate ChatPromptOptions::load_template(const std::string& model) const {
  if (!template_file) {
    std::optional<ChatTemplate> found = ChatTemplate::find(model);
    if (!found) {
      fail(
          "{}: has no chat template, so Octet cannot know how to talk to this model. Name a file that holds one with "
          "--template FILE, or continue texts with 'octet generate'.",
          model);
    }
    return *std::move(found);
  }
  constexpr int64_t kLargest = int64_t{1} << 20;
  ChatTemplate chat_template = ChatTemplate::parse(read_text_file(*template_file, kLargest), *template_file);
  chat_template.read_special_tokens(model);
  return chat_template;
}

std::vector<int32_t> encode_chat(const ChatTemplate& chat_template, const Tokenizer& tokenizer,
                                 nlohmann::ordered_json messages) {
  Conversation conversation;
  conversation.messages = std::move(messages);
  return tokenizer
      .encode(chat_template.render(conversation), {.special_tokens = SpecialTokens::kWithout, .truncation = {}})
      .ids;
}

void add_answer_end(std::vector<int32_t>& stop_ids, const Tokenizer& tokenizer) {
  const auto end = tokenizer.eos_id();
  if (end && std::ranges::count(stop_ids, *end) == 0) stop_ids.push_back(*end);
}

nlohmann::ordered_json chat_message(const char* role, const std::string& content) {
  return {{"role", role}, {"content", content}};
}

}  // namespace octet::cli
