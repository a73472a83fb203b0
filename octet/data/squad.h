// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "octet/text/tokenizer.h"

namespace octet {

/// A question whose answer is a span of its context (SQuAD 1.1: Rajpurkar et al., 2016).
struct SquadQuestion {
  std::string id, context, question;
  std::vector<std::string> answers;    ///< right ones, at least one; the first is learned
  std::vector<int64_t> answer_starts;  ///< the byte of the context where each begins
};

/// Reads SQuAD's JSON: data[].paragraphs[] with "context" and "qas"[] with "id", "question" and "answers"[] of "text"
/// and "answer_start", a count of characters (code points). Only the first `limit` questions are given. Throws Error
/// where the file cannot be read, FormatError naming the place in it for anything else, a question without answers
/// (SQuAD 2.0) and an answer that does not stand at its start included.
std::vector<SquadQuestion> read_squad(const std::filesystem::path& path, std::optional<int64_t> limit = {});
/// The contents of such a file; `source` names it.
std::vector<SquadQuestion> parse_squad(std::string_view json, const std::string& source,
                                       std::optional<int64_t> limit = {});

/// How a question and its context become windows that a model reads one by one.
struct SpanOptions {
  int64_t length = 384;  ///< tokens of a window, question and special ones included
  int64_t stride = 128;  ///< tokens of the context that a window repeats of the one before
};

/// One window: the question, then a part of the context, with the tokens that the model's tokenizer puts around them.
struct SpanFeature {
  size_t question = 0;  ///< index of it
  std::vector<int32_t> ids, type_ids;
  int64_t start = 0, end = 0;  ///< the tokens that the first answer begins and ends with, or 0, the class token, where
                               ///< it is not wholly inside
  int64_t context_begin = 0, context_end = 0;        ///< the tokens [begin, end) that are of the context,
  std::vector<std::pair<int64_t, int64_t>> offsets;  ///< and the bytes [begin, end) of it that each of those stands for
};

/// The windows of all questions in order, as the question answering example of transformers (run_qa.py) makes them:
/// only the context is cut, white space before a question is left out. Its labels, but for an answer that ends with the
/// last token of a window, where they are the answer's too. Throws UsageError naming the question where its tokens
/// leave no more than `stride` for its context.
std::vector<SpanFeature> make_span_features(const std::vector<SquadQuestion>& questions, const Tokenizer& tokenizer,
                                            const SpanOptions& options);

}  // namespace octet
