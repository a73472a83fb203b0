// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "octet/data/squad.h"
#include "octet/models/session.h"

namespace octet {

/// A model's logits of a window's tokens.
struct SpanLogits {
  std::vector<float> start, end;
};

/// How spans are chosen from logits, with the defaults of run_qa.py.
struct AnswerOptions {
  int64_t candidates = 20;  ///< the likeliest starts and ends of each window that are paired
  int64_t longest = 30;     ///< tokens of an answer
};

/// The answer to each question: of all its windows the span with the largest start + end logit that lies in the context
/// and is not too long, the first of equals; "" where there is none. features[i] has logits[i].
std::vector<std::string> best_answers(const std::vector<SquadQuestion>& questions,
                                      std::span<const SpanFeature> features, std::span<const SpanLogits> logits,
                                      const AnswerOptions& options = {});

/// Windows of `length` tokens, or of 384 or the model's longest if that is less, that share `stride` tokens, or a third
/// of them. Throws UsageError for windows that are too long for the model.
SpanOptions span_options(const Tokenizer& tokenizer, const ModelInfo& model, std::optional<int64_t> length,
                         std::optional<int64_t> stride);

/// Runs windows in batches by length. Throws Error where the model has no head for spans.
std::vector<SpanLogits> run_span_logits(Session& session, std::span<const SpanFeature> features,
                                        const std::function<void(int64_t windows)>& advance = {});

/// An answer as SQuAD's evaluation script (1.1) compares it: in lower case, without ASCII punctuation and the words a,
/// an and the, one space between words.
std::string normalize_answer(std::string_view answer);
/// Whether an answer is one of the right ones, and the largest F1 of its words with one of them, as that script counts.
bool exact_match(std::string_view answer, std::span<const std::string> right);
double answer_f1(std::string_view answer, std::span<const std::string> right);

}  // namespace octet
