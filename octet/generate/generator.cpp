// SPDX-License-Identifier: Apache-2.0
#include "octet/generate/generator.h"

#include <algorithm>
#include <chrono>

#include "octet/base/error.h"

namespace octet {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds(Clock::duration time) { return std::chrono::duration<double, std::milli>(time).count(); }

// A prompt at work.
struct Active {
  size_t prompt = 0;
  int sequence = 0;
  std::vector<int32_t> ids;  // of the prompt, then those generated
  size_t run = 0;            // of ids, those that the cache holds
  Clock::time_point start, first_token;
  bool stopped = false;  // by on_token
};

void check(const ModelInfo& info, std::span<const std::vector<int32_t>> prompts, const GenerateOptions& options) {
  if (options.max_tokens < 1) fail<UsageError>("{} tokens to generate; at least 1 is", options.max_tokens);
  if (options.batch < 1 || options.prefill_tokens < 1) fail<UsageError>("a batch holds at least one prompt and token");
  for (size_t i = 0; i < prompts.size(); ++i) {
    const std::string which = prompts.size() == 1 ? "the prompt" : fmt::format("prompt {}", i + 1);
    if (prompts[i].empty()) fail("{} has no tokens; there is nothing to continue", which);
    // One position more is needed for the first token to follow the prompt; it need not be run, so a prompt may be as
    // long as the context.
    if (std::cmp_greater(prompts[i].size(), info.max_positions)) {
      fail("{} has {} tokens; this model's longest context is {}. Shorten it.", which, prompts[i].size(),
           info.max_positions);
    }
  }
}

class Batch {
 public:
  Batch(Session& session, std::span<const std::vector<int32_t>> prompts, const GenerateOptions& options,
        const GenerateCallbacks& callbacks)
      : session_(session),
        prompts_(prompts),
        options_(options),
        callbacks_(callbacks),
        sampler_(options.sampling, options.stop_ids),
        cache_(session.make_cache(options.kv_dtype)),
        results_(prompts.size()) {}

  std::vector<Generation> run() {
    while (fill()) {
      step();
      std::erase_if(active_, [&](Active& active) { return finished(active); });
    }
    return std::move(results_);
  }

 private:
  // Lets prompts in while there is room; whether any is at work.
  bool fill() {
    while (std::cmp_less(active_.size(), options_.batch) && next_ < prompts_.size()) {
      results_[next_].prompt_tokens = static_cast<int64_t>(prompts_[next_].size());
      active_.push_back({.prompt = next_,
                         .sequence = cache_.add_sequence(),
                         .ids = prompts_[next_],
                         .run = 0,
                         .start = Clock::now(),
                         .first_token = {},
                         .stopped = false});
      ++next_;
    }
    return !active_.empty();
  }

  // A piece of each prompt that is still being read, and the last token of each other; a new token for those that are
  // read to their end.
  void step() {
    std::vector<Continuation> continuations;
    for (const Active& active : active_)
      continuations.push_back({.sequence = active.sequence, .ids = std::span(active.ids).subspan(active.run)});
    step_in_pieces(session_, cache_, continuations, options_.prefill_tokens, logits_);
    const auto vocabulary = static_cast<size_t>(session_.model().info().vocabulary);
    for (size_t i = 0; i < active_.size(); ++i) {
      Active& active = active_[i];
      active.run = active.ids.size() - continuations[i].ids.size();
      if (!continuations[i].ids.empty()) continue;
      add_token(active, sampler_.sample(std::span(logits_).subspan(i * vocabulary, vocabulary), active.ids,
                                        prompts_[active.prompt].size()));
    }
  }

  void add_token(Active& active, int32_t id) {
    Generation& result = results_[active.prompt];
    const Clock::time_point now = Clock::now();
    if (result.ids.empty()) {
      active.first_token = now;
      result.first_token_ms = milliseconds(now - active.start);
    }
    result.decode_ms = milliseconds(now - active.first_token);
    result.ids.push_back(id);
    active.ids.push_back(id);
    active.stopped = callbacks_.on_token(active.prompt, id) == OnToken::kStop;
  }

  bool finished(const Active& active) {
    Generation& result = results_[active.prompt];
    if (result.ids.empty()) return false;
    const auto is_stop = [&](int32_t id) { return std::ranges::count(options_.stop_ids, id) > 0; };
    if (active.stopped || is_stop(result.ids.back())) {
      result.finish_reason = FinishReason::kStop;
    } else if (std::cmp_greater_equal(result.ids.size(), options_.max_tokens)) {
      result.finish_reason = FinishReason::kLength;
    } else if (std::cmp_greater(active.ids.size(), session_.model().info().max_positions)) {
      // The last token has no position left to be run at.
      result.finish_reason = FinishReason::kContext;
    } else {
      return false;
    }
    cache_.remove_sequence(active.sequence);
    callbacks_.on_finish(active.prompt);
    return true;
  }

  Session& session_;
  std::span<const std::vector<int32_t>> prompts_;
  const GenerateOptions& options_;
  const GenerateCallbacks& callbacks_;
  Sampler sampler_;
  KvCache cache_;
  std::vector<Generation> results_;
  std::vector<Active> active_;
  size_t next_ = 0;
  std::vector<float> logits_;
};

}  // namespace

std::string_view to_string(FinishReason reason) noexcept {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kContext:
      return "context";
  }
  return "";
}

double Generation::decode_tokens_per_s() const noexcept {
  return ids.size() > 1 && decode_ms > 0 ? static_cast<double>(ids.size() - 1) / decode_ms * 1e3 : 0;
}

std::vector<Generation> generate(Session& session, std::span<const std::vector<int32_t>> prompts,
                                 const GenerateOptions& options, const GenerateCallbacks& callbacks) {
  require_decoder(session);
  check(session.model().info(), prompts, options);
  return Batch(session, prompts, options, callbacks).run();
}

}  // namespace octet
