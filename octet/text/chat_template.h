// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/text/jinja/budget.h"

namespace octet {

/// A chat template refuses a conversation on purpose (it calls raise_exception): "roles must alternate".
class ConversationError : public Error {
 public:
  using Error::Error;
};

/// What a chat template is given. JSON is ordered, because templates write the tools of a request as they came.
struct Conversation {
  /// An array of objects with "role" and "content": a string, or an array of objects such as {"type": "text", "text":
  /// …}. Other keys are the template's affair.
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  nlohmann::ordered_json tools;       ///< an array of JSON schemas of functions; null: none
  nlohmann::ordered_json documents;   ///< an array of objects; null: none
  bool add_generation_prompt = true;  ///< end with what begins the model's answer
  /// An object: further variables, by name. They go before the special tokens and all of the above.
  nlohmann::ordered_json variables = nlohmann::ordered_json::object();
};

/// The template that makes one text of a conversation, as a model was trained to read it: Jinja, as jinja2 3.1 renders
/// it in the environment of transformers' apply_chat_template (5.24; trim_blocks, lstrip_blocks, loop controls, an
/// immutable sandbox, and its own tojson, raise_exception, strftime_now and {% generation %}).
///
/// The language: set (with blocks, tuples and attributes of namespaces), if, for (with a filter, else, break,
/// continue), macro, call, filter, with, raw; all expressions; the filters, tests and methods of strings, lists and
/// dicts that make sense in a text. What is left out (blocks and templates in other files, recursive loops, filters for
/// HTML pages) is an error that names it. Integers have 64 bits.
///
/// Templates are text from strangers: parsing and rendering take bounded time, memory and stack.
class ChatTemplate {
 public:
  /// Throws FormatError, "SOURCE: line N: …", for what is not a template. Bytes that are not UTF-8 count as U+FFFD.
  static ChatTemplate parse(std::string_view text, std::string_view source);
  /// The template of a model, none if it has none; of a Hugging Face directory: chat_template.jinja and those in
  /// additional_chat_templates/, or else `chat_template` of tokenizer_config.json (a text, or a list of names and
  /// texts), or else of chat_template.json. Its variables bos_token, eos_token and so on are those of
  /// tokenizer_config.json and special_tokens_map.json; of a GGUF file all of that is in its metadata. Throws
  /// FormatError for files that are damaged.
  static std::optional<ChatTemplate> find(const std::filesystem::path& directory);

  /// A special token by the name of its variable: set("bos_token", "<s>"). One that is set is changed.
  void set_special_token(std::string_view name, std::string_view text);
  /// Sets those that a Hugging Face model directory, or a GGUF file, names.
  void read_special_tokens(const std::filesystem::path& directory);

  /// The text. Of several templates the one named "tool_use" is taken where there are tools, else "default". Like
  /// transformers, it leaves out keys of messages that are null and gives a message's "reasoning_content" the other
  /// names that templates use. Throws ConversationError, FormatError for what the template does wrong with these
  /// messages or where it passes the limits, and Error where there is no message or a message is no object.
  std::string render(const Conversation& conversation, const jinja::Limits& limits = {},
                     std::chrono::system_clock::time_point now = std::chrono::system_clock::now()) const;

 private:
  struct Variant;
  ChatTemplate() = default;
  void add(std::string name, std::string_view text, std::string_view source);
  const Variant& choose(bool with_tools) const;

  std::vector<std::shared_ptr<const Variant>> variants_;
  nlohmann::ordered_json special_tokens_ = nlohmann::ordered_json::object();
};

}  // namespace octet
