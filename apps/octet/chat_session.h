// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "octet/generate/generator.h"
#include "octet/text/chat_template.h"
#include "octet/text/tokenizer.h"

namespace octet::cli {

/// What happens where a conversation no longer fits into the model's context.
enum class ContextOverflow { kError, kSlide };

struct ChatOptions {
  SamplingOptions sampling = {};
  std::vector<std::string> stop_strings = {};
  std::vector<int32_t> stop_ids = {};
  std::optional<DType> kv_dtype = std::nullopt;
  int64_t max_tokens = 1024;  ///< of an answer
  ContextOverflow overflow = ContextOverflow::kError;
};

/// A conversation with a model. What the model has read of it stays in a key-value cache, so that a turn runs what is
/// new (in whole blocks of the cache), whatever the template makes of the messages before.
class ChatSession {
 public:
  /// All but the options must outlive it. Throws as Generator does.
  ChatSession(Session& session, const Tokenizer& tokenizer, const ChatTemplate& chat_template, ChatOptions options);

  struct Answer {
    std::string text;
    Generation generation;
    bool stopped_at_string = false;
    int64_t dropped = 0;  ///< messages that slid out of the context before this answer
  };

  /// The model's answer to the next message, which it adds to the history with it. on_text gets the text in pieces;
  /// `interrupted` is asked between tokens, and ends the answer there: what came so far stays, and where nothing came
  /// the message is forgotten too. Throws Error, and forgets the message, where the conversation does not fit into the
  /// model's context (with kSlide: not even the message alone), and as ChatTemplate::render and Generator::step do.
  Answer answer(const std::string& message, const std::function<void(std::string_view piece)>& on_text,
                const std::function<bool()>& interrupted);

  /// The message that was last answered, which is forgotten with its answer; none where there is none.
  std::optional<std::string> undo();
  /// Forgets everything but the system message.
  void reset();
  void set_system(std::optional<std::string> system) { system_ = std::move(system); }

  /// The whole conversation, the system message first: [{"role": …, "content": …}, …]
  nlohmann::ordered_json history() const;
  size_t exchanges() const { return history_.size(); }
  /// Tokens that the model had read and written at the end of the last answer.
  int64_t context_tokens() const { return context_tokens_; }
  int64_t longest_context() const { return session_->model().info().max_positions; }

 private:
  struct Exchange {
    std::string message, answer;
  };

  nlohmann::ordered_json messages(size_t first) const;
  std::vector<int32_t> fitting_prompt(const std::string& message, int64_t& dropped);

  Session* session_;
  const Tokenizer* tokenizer_;
  const ChatTemplate* chat_template_;
  ChatOptions options_;
  Generator generator_;
  std::optional<std::string> system_;
  std::vector<Exchange> history_;
  size_t first_ = 0;  ///< of history_, those before it have slid out of the context
  int64_t context_tokens_ = 0;
};

}  // namespace octet::cli
