// SPDX-License-Identifier: Apache-2.0
#include "octet/text/chat_template.h"

#include <algorithm>

#include "octet/base/json.h"
#include "octet/base/mapped_file.h"
#include "octet/io/gguf_names.h"
#include "octet/io/gguf_reader.h"
#include "octet/text/jinja/interpreter.h"
#include "octet/text/jinja/python_text.h"
#include "octet/text/jinja/syntax.h"
#include "octet/text/json_node.h"
#include "octet/text/tokenizer_config.h"

namespace octet {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

// Published templates have some tens of kilobytes at most; a tokenizer_config.json lists thousands of tokens beside it.
constexpr int64_t kLargestTemplate = int64_t{1} << 20, kLargestConfig = int64_t{64} << 20;

std::string read_if_there(const fs::path& file, int64_t limit) {
  return fs::exists(file) ? read_text_file(file, limit) : "";
}

// What transformers does to messages before a template sees them.
ordered_json normalize(const ordered_json& messages) {
  if (!messages.is_array() || messages.empty()) fail<Error>("a conversation needs at least one message");
  ordered_json result = ordered_json::array();
  for (const ordered_json& message : messages) {
    if (!message.is_object()) fail<Error>("a message of a conversation must be an object with a role and content");
    ordered_json kept = ordered_json::object();
    const ordered_json* reasoning = nullptr;
    for (const char* name : {"reasoning_content", "thinking", "reasoning"}) {
      const auto found = message.find(name);
      if (reasoning == nullptr && found != message.end() && !found->is_null()) reasoning = &*found;
    }
    if (reasoning != nullptr) kept["thinking"] = *reasoning;
    for (const auto& [key, value] : message.items()) {
      if (!value.is_null()) kept[key] = value;
    }
    if (reasoning != nullptr) kept["reasoning_content"] = *reasoning;
    result.push_back(std::move(kept));
  }
  return result;
}

}  // namespace

struct ChatTemplate::Variant {
  std::string name, source;
  jinja::Block program;
};

ChatTemplate ChatTemplate::parse(std::string_view text, std::string_view source) {
  ChatTemplate result;
  result.add("default", text, source);
  return result;
}

void ChatTemplate::add(std::string name, std::string_view text, std::string_view source) {
  if (std::cmp_greater(text.size(), kLargestTemplate)) {
    fail<FormatError>("{}: the chat template has {} bytes; Octet reads up to {}", source, text.size(),
                      kLargestTemplate);
  }
  try {
    variants_.push_back(std::make_shared<const Variant>(
        Variant{std::move(name), std::string(source), jinja::parse(jinja::valid_utf8(text))}));
  } catch (const jinja::LocatedError& error) {
    fail<FormatError>("{}: line {}: {}", source, error.line, error.what());
  }
}

std::optional<ChatTemplate> ChatTemplate::find(const fs::path& directory) {
  ChatTemplate result;
  if (const std::optional<fs::path> gguf = find_gguf(directory)) {
    const GgufFile file = GgufFile::open(*gguf);
    if (!file.has(gguf_keys::kChatTemplate)) return std::nullopt;
    result.add("default", file.text(gguf_keys::kChatTemplate),
               fmt::format("{}: {}", gguf->string(), gguf_keys::kChatTemplate));
    result.read_special_tokens(directory);
    return result;
  }
  const fs::path file = directory / "chat_template.jinja";
  if (fs::exists(file)) result.add("default", read_text_file(file, kLargestTemplate), file.string());
  if (const fs::path more = directory / "additional_chat_templates"; fs::is_directory(more)) {
    for (const fs::directory_entry& entry : fs::directory_iterator(more)) {
      const fs::path& path = entry.path();
      if (path.extension() == ".jinja")
        result.add(path.stem().string(), read_text_file(path, kLargestTemplate), path.string());
    }
  }
  for (const char* name : {"tokenizer_config.json", "chat_template.json"}) {
    if (!result.variants_.empty()) break;
    const fs::path config_file = directory / name;
    const std::string source = config_file.string();
    const nlohmann::json config = parse_config(read_if_there(config_file, kLargestConfig), source);
    const auto node = JsonNode(config, source).find("chat_template");
    if (!node) continue;
    if (node->value().is_string()) {
      result.add("default", node->string(), source + ": chat_template");
      continue;
    }
    for (const JsonNode& one : node->elements()) {
      const std::string& variant = one.at("name").string();
      result.add(variant, one.at("template").string(), fmt::format("{}: chat_template '{}'", source, shorten(variant)));
    }
  }
  if (result.variants_.empty()) return std::nullopt;
  result.read_special_tokens(directory);
  return result;
}

void ChatTemplate::set_special_token(std::string_view name, std::string_view text) {
  special_tokens_[std::string(name)] = std::string(text);
}

void ChatTemplate::read_special_tokens(const fs::path& directory) {
  if (const std::optional<fs::path> gguf = find_gguf(directory)) {
    const GgufFile file = GgufFile::open(*gguf);
    const std::vector<std::string_view> tokens = file.texts(gguf_keys::kTokens);
    for (const auto& [name, key] : {std::pair{"bos_token", gguf_keys::kBosId},
                                    {"eos_token", gguf_keys::kEosId},
                                    {"unk_token", gguf_keys::kUnknownId},
                                    {"pad_token", gguf_keys::kPaddingId}}) {
      if (!file.has(key)) continue;
      const int64_t id = file.integer(key, {0, std::ssize(tokens) - 1});
      set_special_token(name, tokens[static_cast<size_t>(id)]);
    }
    return;
  }
  for (const char* file : {"special_tokens_map.json", "tokenizer_config.json"}) {
    const fs::path path = directory / file;
    const std::string text = read_if_there(path, kLargestConfig);
    const nlohmann::json config = parse_config(text, path.string());
    for (const char* name :
         {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
      if (const auto node = JsonNode(config, path.string()).find(name))
        set_special_token(name, read_special_token(*node).content);
    }
  }
}

const ChatTemplate::Variant& ChatTemplate::choose(bool with_tools) const {
  const auto named = [&](std::string_view name) {
    return std::find_if(variants_.begin(), variants_.end(), [&](const auto& variant) { return variant->name == name; });
  };
  auto found = with_tools ? named("tool_use") : variants_.end();
  if (found == variants_.end()) found = named("default");
  if (found == variants_.end()) {
    fail<FormatError>("{}: there are chat templates, but none is named 'default'", variants_.front()->source);
  }
  return **found;
}

std::string ChatTemplate::render(const Conversation& conversation, const jinja::Limits& limits,
                                 std::chrono::system_clock::time_point now) const {
  const Variant& variant = choose(!conversation.tools.is_null());
  const ordered_json messages = normalize(conversation.messages);
  jinja::Budget budget(limits);
  try {
    jinja::Variables variables;
    // The first that has a name keeps it.
    for (const ordered_json* source : {&conversation.variables, &special_tokens_}) {
      for (const auto& [name, value] : source->items()) {
        if (!variables.contains(name)) variables.emplace(name, jinja::from_json(budget, value));
      }
    }
    variables.try_emplace("messages", jinja::from_json(budget, messages));
    variables.try_emplace("tools", jinja::from_json(budget, conversation.tools));
    variables.try_emplace("documents", jinja::from_json(budget, conversation.documents));
    variables.try_emplace("add_generation_prompt", conversation.add_generation_prompt);
    return jinja::interpret(variant.program, std::move(variables), budget, now);
  } catch (const jinja::RaisedError& error) {
    fail<ConversationError>("{}: the template refuses this conversation: {}", variant.source, error.what());
  } catch (const jinja::LocatedError& error) {
    fail<FormatError>("{}: line {}: {}", variant.source, error.line, error.what());
  } catch (const jinja::OperationError& error) {
    fail<FormatError>("{}: {}", variant.source, error.what());
  }
}

}  // namespace octet
