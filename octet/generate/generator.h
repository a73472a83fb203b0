// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "octet/generate/prefill.h"
#include "octet/generate/sampler.h"

namespace octet {

struct GenerateOptions {
  SamplingOptions sampling = {};
  int64_t max_tokens = 128;                      ///< to generate for each prompt
  std::vector<int32_t> stop_ids = {};            ///< a text ends with the first of these (see read_eos_ids)
  std::optional<DType> kv_dtype = std::nullopt;  ///< see Session::make_cache
  int64_t batch = 8;                             ///< prompts at work at once; when one has ended the next begins
  int64_t prefill_tokens = kPrefillTokens;
};

enum class FinishReason : uint8_t {
  kStop,     ///< one of stop_ids came, or on_token ended the text
  kLength,   ///< max_tokens were generated
  kContext,  ///< prompt and text fill the model's longest context
};

/// "stop", "length" or "context"
std::string_view to_string(FinishReason reason) noexcept;

/// What one prompt gave.
struct Generation {
  std::vector<int32_t> ids;  ///< generated, the stop token included
  FinishReason finish_reason = FinishReason::kLength;
  int64_t prompt_tokens = 0;
  double first_token_ms = 0;  ///< from the start of its prefill to its first token
  double decode_ms = 0;       ///< from its first token to its last

  /// Tokens after the first by the time they took; 0 where there is no second.
  double decode_tokens_per_s() const noexcept;
};

/// What on_token says: whether the text goes on or ends with this token.
enum class OnToken : uint8_t { kContinue, kStop };

struct GenerateCallbacks {
  /// A token was generated for prompt `prompt`.
  std::function<OnToken(size_t prompt, int32_t id)> on_token = [](size_t, int32_t) { return OnToken::kContinue; };
  /// The prompt's text has ended.
  std::function<void(size_t prompt)> on_finish = [](size_t) {};
};

/// Continues each prompt, token by token. What one gives does not depend on the others, the batch, or the size of the
/// pieces in which it is read. Throws Error for a prompt without tokens or one that leaves the model's context no room,
/// UsageError for options out of range, and as Session::step and Sampler do.
std::vector<Generation> generate(Session& session, std::span<const std::vector<int32_t>> prompts,
                                 const GenerateOptions& options, const GenerateCallbacks& callbacks = {});

}  // namespace octet
