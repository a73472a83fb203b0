// SPDX-License-Identifier: Apache-2.0
#include "octet/generate/generator.h"

#include <algorithm>
#include <utility>

#include "octet/base/error.h"

namespace octet {
namespace {

double milliseconds(std::chrono::steady_clock::duration time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

// 2^(6 - 1) = 32 steps between guesses at most.
constexpr int64_t kMostMisses = 6;

Session& checked(Session& session, const GeneratorOptions& options) {
  require_decoder(session);
  if (options.batch < 1 || options.prefill_tokens < 1) fail<UsageError>("a batch holds at least one prompt and token");
  if (options.draft != nullptr && options.draft_tokens < 1) {
    fail<UsageError>("{} tokens to guess at; at least 1 is", options.draft_tokens);
  }
  return session;
}

}  // namespace

Generator::Generator(Session& session, const GeneratorOptions& options)
    : session_(checked(session, options)), options_(options), cache_(session.make_cache(options.kv_dtype)) {}

int64_t Generator::submit(GenerateRequest request) {
  check_prompt(session_.model().info(), request.prompt, "the prompt");
  if (request.max_tokens < 1) fail<UsageError>("{} tokens to generate; at least 1 is", request.max_tokens);
  check_sampling(request.sampling, session_.model().info().vocabulary);
  Sampler sampler(request.sampling, request.stop_ids);
  Active added{.number = submitted_, .request = std::move(request), .sampler = std::move(sampler)};
  added.ids = added.request.prompt;
  added.result.prompt_tokens = std::ssize(added.ids);
  added.most_guesses = options_.draft_tokens;
  waiting_.push_back(std::move(added));
  return submitted_++;
}

void Generator::cancel(int64_t request) {
  const auto waiting = std::ranges::find(waiting_, request, &Active::number);
  if (waiting != waiting_.end()) {
    Active cancelled = std::move(*waiting);
    waiting_.erase(waiting);
    cancelled.finished = FinishReason::kCancelled;
    finish(cancelled);
    return;
  }
  for (Active& active : active_) {
    if (active.number == request && !active.finished) active.finished = FinishReason::kCancelled;
  }
}

void Generator::step() {
  admit();
  if (active_.empty()) return;
  // The last token is still to be run; what was run beyond it were wrong guesses.
  for (const Active& active : active_)
    cache_.truncate(active.sequence, std::min(cache_.length(active.sequence), std::ssize(active.ids) - 1));
  if (options_.draft != nullptr) guess();
  std::vector<std::vector<int32_t>> to_run;
  std::vector<Continuation> continuations;
  for (const Active& active : active_) {
    to_run.emplace_back(active.ids.begin() + cache_.length(active.sequence), active.ids.end());
    to_run.back().insert(to_run.back().end(), active.guesses.begin(), active.guesses.end());
    continuations.push_back(
        {.sequence = active.sequence, .ids = to_run.back(), .rows = std::ssize(active.guesses) + 1});
  }
  step_in_pieces(session_, cache_, continuations, options_.prefill_tokens, logits_);
  const auto vocabulary = static_cast<size_t>(session_.model().info().vocabulary);
  std::span<const float> left = logits_;
  for (size_t i = 0; i < active_.size(); ++i) {
    if (!continuations[i].ids.empty()) continue;
    const size_t count = static_cast<size_t>(continuations[i].rows) * vocabulary;
    take_tokens(active_[i], left.first(count));
    left = left.subspan(count);
  }
  admit();
}

// Those that have ended go, and others come while there is room.
void Generator::admit() {
  const auto ended = std::stable_partition(active_.begin(), active_.end(), [](const Active& a) { return !a.finished; });
  std::vector<Active> leaving(std::make_move_iterator(ended), std::make_move_iterator(active_.end()));
  active_.erase(ended, active_.end());
  for (Active& active : leaving) finish(active);
  while (std::cmp_less(active_.size(), options_.batch) && !waiting_.empty()) {
    if (another_reads_its_beginning(waiting_.front().ids)) break;
    Active active = std::move(waiting_.front());
    waiting_.pop_front();
    active.sequence = cache_.add_sequence(active.ids);
    active.result.cached_tokens = cache_.length(active.sequence);
    active.start = Clock::now();
    active_.push_back(std::move(active));
  }
}

// Whether a prompt at work will leave more of this one's beginning in the cache than is there now.
bool Generator::another_reads_its_beginning(std::span<const int32_t> prompt) const {
  const int64_t cached = cache_.cached_prefix(prompt);
  return std::ranges::any_of(active_, [&](const Active& active) {
    const std::span<const int32_t> other = active.request.prompt;
    if (cache_.length(active.sequence) >= std::ssize(other)) return false;
    const auto common = std::ranges::mismatch(prompt, other).in1 - prompt.begin();
    return std::min<int64_t>(common, std::ssize(prompt) - 1) / kKvBlockTokens * kKvBlockTokens > cached;
  });
}

void Generator::guess() {
  std::vector<DraftText> texts;
  std::vector<Active*> of_text;
  const int64_t longest = session_.model().info().max_positions;
  for (Active& active : active_) {
    active.guesses.clear();
    // One that is still being read has no next token to guess at.
    const int64_t length = std::ssize(active.ids);
    if (active.finished || cache_.length(active.sequence) + 1 < length) continue;
    if (active.pause > 0) {
      --active.pause;
      continue;
    }
    // The step gives one token besides.
    const int64_t wanted = active.request.max_tokens - std::ssize(active.result.ids) - 1;
    const int64_t most = std::min({active.most_guesses, wanted, longest - length});
    if (most < 1) continue;
    texts.push_back({.request = active.number,
                     .prompt_tokens = active.request.prompt.size(),
                     .ids = active.ids,
                     .sampler = &active.sampler,
                     .most = most});
    of_text.push_back(&active);
  }
  if (texts.empty()) return;
  std::vector<std::vector<int32_t>> guesses = options_.draft->guess(texts);
  for (size_t i = 0; i < texts.size(); ++i) {
    // A draft's vocabulary may be padded to more ids than this model has.
    const auto known = std::ranges::find_if_not(
        guesses[i], [&](int32_t id) { return id >= 0 && id < session_.model().info().vocabulary; });
    guesses[i].erase(known, guesses[i].end());
    of_text[i]->guesses = std::move(guesses[i]);
    of_text[i]->result.guessed_tokens += std::ssize(of_text[i]->guesses);
  }
}

// A token for each row of logits [1 + guesses, vocabulary], as long as the row's text is the one that was guessed.
void Generator::take_tokens(Active& active, std::span<const float> logits) {
  const auto vocabulary = static_cast<size_t>(session_.model().info().vocabulary);
  if (active.finished) return;  // cancelled by a function of another request
  size_t kept = 0;
  for (;; ++kept) {
    add_token(active, active.sampler.sample(logits.subspan(kept * vocabulary, vocabulary), active.ids,
                                            active.request.prompt.size()));
    if (active.finished || kept == active.guesses.size() || active.ids.back() != active.guesses[kept]) break;
  }
  active.result.kept_guesses += static_cast<int64_t>(kept);
  if (!active.guesses.empty()) {
    // Longer after a run of right guesses, shorter after a wrong one.
    active.most_guesses = kept == active.guesses.size() ? std::min(active.most_guesses + 2, options_.draft_tokens)
                                                        : std::max<int64_t>(active.most_guesses - 1, 1);
    // Where they are never right, ever fewer steps pay for them.
    active.misses = kept == 0 ? std::min<int64_t>(active.misses + 1, kMostMisses) : 0;
    active.pause = active.misses < 2 ? 0 : int64_t{1} << (active.misses - 1);
  }
  active.guesses.clear();
}

void Generator::add_token(Active& active, int32_t id) {
  Generation& result = active.result;
  const Clock::time_point now = Clock::now();
  if (result.ids.empty()) {
    active.first_token = now;
    result.first_token_ms = milliseconds(now - active.start);
  }
  result.decode_ms = milliseconds(now - active.first_token);
  result.ids.push_back(id);
  active.ids.push_back(id);
  const OnToken next = active.request.on_token(id);
  if (active.finished) return;  // cancelled by on_token
  if (next == OnToken::kStop || std::ranges::count(active.request.stop_ids, id) > 0) {
    active.finished = FinishReason::kStop;
  } else if (std::ssize(result.ids) >= active.request.max_tokens) {
    active.finished = FinishReason::kLength;
  } else if (std::ssize(active.ids) > session_.model().info().max_positions) {
    // The last token has no position left to be run at.
    active.finished = FinishReason::kContext;
  }
}

void Generator::finish(Active& active) {
  if (active.sequence >= 0) cache_.remove_sequence(active.sequence);
  if (options_.draft != nullptr) options_.draft->forget(active.number);
  active.result.finish_reason = *active.finished;
  active.request.on_finish(active.result);
}

std::string_view to_string(FinishReason reason) noexcept {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kContext:
      return "context";
    case FinishReason::kCancelled:
      return "cancelled";
  }
  return "";
}

double Generation::decode_tokens_per_s() const noexcept {
  return ids.size() > 1 && decode_ms > 0 ? static_cast<double>(ids.size() - 1) / decode_ms * 1e3 : 0;
}

std::vector<Generation> generate(Session& session, std::span<const std::vector<int32_t>> prompts,
                                 const GenerateOptions& options, const GenerateCallbacks& callbacks) {
  Generator generator(session, {.kv_dtype = options.kv_dtype,
                                .batch = options.batch,
                                .prefill_tokens = options.prefill_tokens,
                                .draft = options.draft,
                                .draft_tokens = options.draft_tokens});
  for (size_t i = 0; prompts.size() > 1 && i < prompts.size(); ++i)
    check_prompt(session.model().info(), prompts[i], fmt::format("prompt {}", i + 1));
  std::vector<Generation> results(prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    generator.submit({.prompt = prompts[i],
                      .sampling = options.sampling,
                      .max_tokens = options.max_tokens,
                      .stop_ids = options.stop_ids,
                      .on_token = [&callbacks, i](int32_t id) { return callbacks.on_token(i, id); },
                      .on_finish =
                          [&callbacks, &results, i](const Generation& result) {
                            results[i] = result;
                            callbacks.on_finish(i);
                          }});
  }
  while (!generator.idle()) generator.step();
  return results;
}

}  // namespace octet
