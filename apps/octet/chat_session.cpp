// SPDX-License-Identifier: Apache-2.0
#include "apps/octet/chat_session.h"

#include <algorithm>
#include <utility>

#include "apps/octet/chat_prompt.h"
#include "apps/octet/continued_text.h"
#include "octet/base/error.h"
#include "octet/report/format.h"

namespace octet::cli {

ChatSession::ChatSession(Session& session, const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                         ChatOptions options)
    : session_(&session),
      tokenizer_(&tokenizer),
      chat_template_(&chat_template),
      options_(std::move(options)),
      generator_(session, {.kv_dtype = options_.kv_dtype, .batch = 1}) {}

nlohmann::ordered_json ChatSession::messages(size_t first) const {
  nlohmann::ordered_json result = nlohmann::ordered_json::array();
  if (system_) result.push_back(chat_message("system", *system_));
  for (size_t i = first; i < history_.size(); ++i) {
    result.push_back(chat_message("user", history_[i].message));
    result.push_back(chat_message("assistant", history_[i].answer));
  }
  return result;
}

nlohmann::ordered_json ChatSession::history() const { return messages(0); }

std::vector<int32_t> ChatSession::fitting_prompt(const std::string& message, int64_t& dropped) {
  const int64_t longest = longest_context();
  // A sliding window leaves room for an answer: otherwise it would slide with every message.
  const int64_t room = options_.overflow == ContextOverflow::kSlide ? std::min(options_.max_tokens, longest / 4) : 1;
  for (;;) {
    nlohmann::ordered_json all = messages(first_);
    all.push_back(chat_message("user", message));
    std::vector<int32_t> ids = encode_chat(*chat_template_, *tokenizer_, std::move(all));
    if (std::ssize(ids) + room <= longest) return ids;
    if (first_ == history_.size()) {
      // Alone it may take the room that an answer would have.
      if (std::ssize(ids) < longest) return ids;
      fail("this message has {} tokens with what the chat template adds, and the model's context holds {}. Shorten it.",
           format_count(std::ssize(ids)), format_count(longest));
    }
    if (options_.overflow == ContextOverflow::kError) {
      fail(
          "the conversation has {} tokens with this message, and the model's context holds {}. Forget it with /reset, "
          "or its last part with /undo; with --context-overflow slide the oldest messages make room by themselves.",
          format_count(std::ssize(ids)), format_count(longest));
    }
    ++first_;
    dropped += 2;
  }
}

ChatSession::Answer ChatSession::answer(const std::string& message,
                                        const std::function<void(std::string_view piece)>& on_text,
                                        const std::function<bool()>& interrupted) {
  Answer result;
  std::vector<int32_t> prompt = fitting_prompt(message, result.dropped);
  ContinuedText text(*tokenizer_, prompt, StopStrings(options_.stop_strings), options_.sampling.min_tokens);
  size_t told = 0;
  const auto tell = [&] {
    if (text.text().size() > told) on_text(std::string_view(text.text()).substr(told));
    told = text.text().size();
  };
  const int64_t request = generator_.submit({.prompt = std::move(prompt),
                                             .sampling = options_.sampling,
                                             .max_tokens = options_.max_tokens,
                                             .stop_ids = options_.stop_ids,
                                             .on_token =
                                                 [&](int32_t id) {
                                                   text.push(id);
                                                   tell();
                                                   return text.stopped() ? OnToken::kStop : OnToken::kContinue;
                                                 },
                                             .on_finish = [&](const Generation& done) { result.generation = done; }});
  // Whatever leaves this function leaves no request behind whose functions are gone with it.
  struct Cancel {
    Generator& generator;
    int64_t request;
    ~Cancel() {
      generator.cancel(request);
      if (!generator.idle()) generator.step();
    }
  };
  {
    const Cancel cancel{generator_, request};
    while (!generator_.idle()) {
      if (interrupted()) generator_.cancel(request);
      generator_.step();
    }
  }
  text.finish();
  tell();
  result.text = text.text();
  result.stopped_at_string = text.stopped();
  context_tokens_ = result.generation.prompt_tokens + std::ssize(result.generation.ids);
  const bool nothing = result.generation.finish_reason == FinishReason::kCancelled && result.generation.ids.empty();
  if (!nothing) history_.push_back({message, result.text});
  return result;
}

std::optional<std::string> ChatSession::undo() {
  if (history_.empty()) return std::nullopt;
  std::string message = std::move(history_.back().message);
  history_.pop_back();
  first_ = std::min(first_, history_.size());
  return message;
}

void ChatSession::reset() {
  history_.clear();
  first_ = 0;
  context_tokens_ = 0;
}

}  // namespace octet::cli
