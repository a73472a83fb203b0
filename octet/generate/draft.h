// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "octet/generate/prefill.h"
#include "octet/generate/sampler.h"

namespace octet {

/// A text at work, as a Draft sees it.
struct DraftText {
  int64_t request = 0;  ///< its number, the same from call to call
  size_t prompt_tokens = 0;
  std::span<const int32_t> ids;  ///< prompt and what was generated
  Sampler* sampler = nullptr;    ///< what chooses its tokens
  int64_t most = 0;              ///< guesses wanted at most
};

/// Guesses at the next tokens of texts, which a model then checks all at once (speculative decoding: Leviathan, Kalman
/// and Matias, 2023). A token that it would not have chosen itself is never kept, so guesses change how fast a text
/// comes and nothing else; that holds for sampled texts too, because a sampler's choice is a function of logits and
/// position.
class Draft {
 public:
  virtual ~Draft() = default;
  /// At most texts[i].most tokens for each text; none where there is nothing to go by.
  virtual std::vector<std::vector<int32_t>> guess(std::span<const DraftText> texts) = 0;
  /// The request has ended.
  virtual void forget(int64_t request) = 0;
};

/// What followed the text's last tokens when they stood there before (prompt look-up: Saxena, 2023): good where a text
/// repeats its prompt, as summaries and edits do.
class PromptLookup final : public Draft {
 public:
  /// The last `longest` tokens are looked for first, then fewer, down to `shortest`; of several places the last counts.
  explicit PromptLookup(int64_t longest = 3, int64_t shortest = 1);

  std::vector<std::vector<int32_t>> guess(std::span<const DraftText> texts) override;
  void forget(int64_t) override {}

 private:
  size_t longest_, shortest_;
};

/// A smaller model with the same vocabulary, which keeps a KvCache of its own over the texts. It draws its guesses with
/// the text's sampler, so that both models' choices meet as often as their logits allow.
class DraftModel final : public Draft {
 public:
  /// `session` must outlive it. Throws UsageError where its model predicts no tokens.
  explicit DraftModel(Session& session);

  std::vector<std::vector<int32_t>> guess(std::span<const DraftText> texts) override;
  void forget(int64_t request) override;

 private:
  Session& session_;
  KvCache cache_;
  std::map<int64_t, int> sequences_;  ///< by request
  std::vector<float> logits_;
};

}  // namespace octet
