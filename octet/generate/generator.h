// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "octet/generate/draft.h"
#include "octet/generate/prefill.h"
#include "octet/generate/sampler.h"

namespace octet {

enum class FinishReason : uint8_t {
  kStop,       ///< one of stop_ids came, or on_token said so
  kLength,     ///< max_tokens were generated
  kContext,    ///< prompt and text fill the model's longest context
  kCancelled,  ///< Generator::cancel
};

/// "stop", "length", "context" or "cancelled"
std::string_view to_string(FinishReason reason) noexcept;

/// Whether a text is to go on after a token.
enum class OnToken : uint8_t { kContinue, kStop };

/// What one prompt gave.
struct Generation {
  std::vector<int32_t> ids;  ///< generated, the stop token included
  FinishReason finish_reason = FinishReason::kLength;
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;   ///< of the prompt, those whose keys and values another had left in the cache
  int64_t guessed_tokens = 0;  ///< by a draft,
  int64_t kept_guesses = 0;    ///< and how many of these were right
  double first_token_ms = 0;   ///< from the start of its prefill to its first token
  double decode_ms = 0;        ///< from its first token to its last

  /// Tokens after the first by the time they took; 0 where there is no second.
  double decode_tokens_per_s() const noexcept;
};

/// A text to continue.
struct GenerateRequest {
  std::vector<int32_t> prompt;
  SamplingOptions sampling = {};
  int64_t max_tokens = 128;
  std::vector<int32_t> stop_ids = {};  ///< the text ends with the first of these (see read_eos_ids)
  std::function<OnToken(int32_t id)> on_token = [](int32_t) { return OnToken::kContinue; };
  std::function<void(const Generation&)> on_finish = [](const Generation&) {};
};

struct GeneratorOptions {
  std::optional<DType> kv_dtype = std::nullopt;  ///< see Session::make_cache
  int64_t batch = 8;                             ///< requests at work at once; the others wait
  int64_t prefill_tokens = kPrefillTokens;       ///< tokens that go through the model at once
  Draft* draft = nullptr;                        ///< guesses at tokens to come; must outlive the generator
  int64_t draft_tokens = 8;                      ///< guesses at most for a text at once
};

/// Texts that grow together, token by token, and join and leave at any step (continuous batching: Yu et al., 2022). The
/// text of a request does not depend on the others, the batch, the size of the pieces in which its prompt is read, or
/// guesses. A prompt that begins like another one's does not run what both begin with again (see KvCache); where that
/// other one is still being read, it waits for it.
class Generator {
 public:
  /// Throws UsageError for options out of range or a model that predicts no token.
  Generator(Session& session, const GeneratorOptions& options);

  /// The request's number. It begins with one of the next steps. Throws Error for a prompt without tokens or one that
  /// leaves the model's context no room, UsageError for options out of range.
  int64_t submit(GenerateRequest request);
  /// Ends a request, at once if it waits, else before the next step; one that has ended already is left alone.
  void cancel(int64_t request);
  /// Whether no request is left.
  bool idle() const noexcept { return active_.empty() && waiting_.empty(); }
  /// One pass of the model over what is at work: a piece of each prompt that is still being read, the last token, and
  /// guesses, of each other. Calls the requests' functions, which may submit and cancel. Throws as Session::step and
  /// Sampler do.
  void step();

 private:
  using Clock = std::chrono::steady_clock;

  struct Active {
    int64_t number = 0;
    GenerateRequest request;
    Sampler sampler;
    Generation result = {};
    std::vector<int32_t> ids = {};      ///< of the prompt, then those generated
    std::vector<int32_t> guesses = {};  ///< at what follows them, in this step
    int64_t most_guesses = 0;
    int64_t misses = 0, pause = 0;  ///< guesses in a row that were wrong from the first; steps to go without any
    int sequence = -1;              ///< of the cache; none while it waits
    std::optional<FinishReason> finished = {};
    Clock::time_point start = {}, first_token = {};
  };

  void admit();
  bool another_reads_its_beginning(std::span<const int32_t> prompt) const;
  void guess();
  void take_tokens(Active& active, std::span<const float> logits);
  void add_token(Active& active, int32_t id);
  void finish(Active& active);

  Session& session_;
  GeneratorOptions options_;
  KvCache cache_;
  std::deque<Active> waiting_;
  std::vector<Active> active_;
  int64_t submitted_ = 0;
  std::vector<float> logits_;
};

struct GenerateOptions {
  SamplingOptions sampling = {};
  int64_t max_tokens = 128;                      ///< to generate for each prompt
  std::vector<int32_t> stop_ids = {};            ///< see GenerateRequest
  std::optional<DType> kv_dtype = std::nullopt;  ///< these, see GeneratorOptions
  int64_t batch = 8;
  int64_t prefill_tokens = kPrefillTokens;
  Draft* draft = nullptr;
  int64_t draft_tokens = 8;
};

struct GenerateCallbacks {
  /// A token was generated for prompt `prompt`.
  std::function<OnToken(size_t prompt, int32_t id)> on_token = [](size_t, int32_t) { return OnToken::kContinue; };
  /// The prompt's text has ended.
  std::function<void(size_t prompt)> on_finish = [](size_t) {};
};

/// Continues each prompt, by a Generator. Throws as its functions do, before anything is generated where a prompt or
/// option is at fault.
std::vector<Generation> generate(Session& session, std::span<const std::vector<int32_t>> prompts,
                                 const GenerateOptions& options, const GenerateCallbacks& callbacks = {});

}  // namespace octet
