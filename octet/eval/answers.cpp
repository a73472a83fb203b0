// SPDX-License-Identifier: Apache-2.0
#include "octet/eval/answers.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "octet/base/error.h"
#include "octet/models/batches.h"
#include "octet/text/jinja/python_text.h"

namespace octet {
namespace {

// The places of the `count` largest values, the largest first, the first of equals.
std::vector<size_t> largest(std::span<const float> values, int64_t count) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto kept = static_cast<std::ptrdiff_t>(std::min<size_t>(order.size(), static_cast<size_t>(count)));
  std::partial_sort(order.begin(), order.begin() + kept, order.end(),
                    [&](size_t a, size_t b) { return values[a] > values[b] || (values[a] == values[b] && a < b); });
  order.resize(static_cast<size_t>(kept));
  return order;
}

// What \w is in Python: letters, numbers, "_" (which punctuation has taken out before).
bool is_word(std::string_view character) { return jinja::is_all(character, jinja::CharacterClass::kAlphanumeric); }

// re.sub(r"\b(a|an|the)\b", " ", text)
std::string without_articles(std::string_view text) {
  std::string result;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = begin;
    while (end < text.size()) {
      const size_t next = jinja::next_character(text, end);
      if (!is_word(text.substr(end, next - end))) break;
      end = next;
    }
    if (end == begin) {
      end = jinja::next_character(text, begin);
      result += text.substr(begin, end - begin);
    } else {
      const std::string_view word = text.substr(begin, end - begin);
      result += word == "a" || word == "an" || word == "the" ? " " : word;
    }
    begin = end;
  }
  return result;
}

bool is_punctuation(char c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}

std::vector<std::string_view> words_of(std::string_view text) {
  return jinja::split(text, std::nullopt, -1, jinja::Side::kLeft);
}

double f1(std::string_view answer, std::string_view right) {
  const std::vector<std::string_view> given = words_of(answer), wanted = words_of(right);
  std::map<std::string_view, int64_t> left;
  for (const std::string_view word : wanted) ++left[word];
  const auto shared =
      std::ranges::count_if(given, [&](std::string_view word) { return left.contains(word) && left[word]-- > 0; });
  if (shared == 0) return 0;
  return 2 * static_cast<double>(shared) / static_cast<double>(given.size() + wanted.size());
}

}  // namespace

std::vector<std::string> best_answers(const std::vector<SquadQuestion>& questions,
                                      std::span<const SpanFeature> features, std::span<const SpanLogits> logits,
                                      const AnswerOptions& options) {
  if (features.size() != logits.size()) fail<ShapeError>("{} windows, {} logits", features.size(), logits.size());
  struct Best {
    bool found = false;
    float score = 0;
    int64_t begin = 0, end = 0;  // bytes of the context
  };
  std::vector<Best> best(questions.size());
  for (size_t i = 0; i < features.size(); ++i) {
    const SpanFeature& feature = features[i];
    if (logits[i].start.size() != feature.ids.size() || logits[i].end.size() != feature.ids.size())
      fail<ShapeError>("window {}: {} tokens, {} start and {} end logits", i, feature.ids.size(),
                       logits[i].start.size(), logits[i].end.size());
    const auto is_context = [&](size_t token) {
      return std::cmp_greater_equal(token, feature.context_begin) && std::cmp_less(token, feature.context_end);
    };
    const std::vector<size_t> ends = largest(logits[i].end, options.candidates);
    Best& answer = best[feature.question];
    for (const size_t start : largest(logits[i].start, options.candidates)) {
      for (const size_t end : ends) {
        if (!is_context(start) || !is_context(end) || end < start) continue;
        if (std::cmp_greater(end - start + 1, options.longest)) continue;
        const float score = logits[i].start[start] + logits[i].end[end];
        if (answer.found && score <= answer.score) continue;
        const auto first = static_cast<size_t>(feature.context_begin);
        answer = {true, score, feature.offsets[start - first].first, feature.offsets[end - first].second};
      }
    }
  }
  std::vector<std::string> answers;
  for (size_t q = 0; q < questions.size(); ++q) {
    const auto begin = static_cast<size_t>(best[q].begin), end = static_cast<size_t>(best[q].end);
    answers.push_back(end > begin ? questions[q].context.substr(begin, end - begin) : "");
  }
  return answers;
}

SpanOptions span_options(const Tokenizer& tokenizer, const ModelInfo& model, std::optional<int64_t> length,
                         std::optional<int64_t> stride) {
  const int64_t longest = std::min(tokenizer.model_max_length().value_or(model.max_positions), model.max_positions);
  SpanOptions spans;
  spans.length = length.value_or(std::min(spans.length, longest));
  if (spans.length > longest)
    fail<UsageError>("windows of {} tokens; this model's longest is {}", spans.length, longest);
  spans.stride = stride.value_or(spans.length / 3);  // the usual 128 of 384
  return spans;
}

std::vector<SpanLogits> run_span_logits(Session& session, std::span<const SpanFeature> features,
                                        const std::function<void(int64_t windows)>& advance) {
  if (const std::string& architecture = session.model().info().architecture;
      !architecture.ends_with("ForQuestionAnswering")) {
    fail("{}: {} has no head that finds answers; one such as BertForQuestionAnswering is needed",
         session.checkpoint().folder().string(), architecture);
  }
  std::vector<TokenSequence> sequences;
  for (const SpanFeature& feature : features) sequences.push_back({feature.ids, feature.type_ids});
  std::vector<SpanLogits> logits(features.size());
  for_batches_by_length(sequences, [&](const TokenBatch& batch, std::span<const size_t> places) {
    const Tensor out = session.run(batch);  // [tokens, 2]
    if (out.shape()[1] != 2) fail<ShapeError>("{} outputs a token; a start and an end are needed", out.shape()[1]);
    const std::span<const float> values = out.as<float>();
    for (size_t b = 0; b < places.size(); ++b) {
      SpanLogits& of_window = logits[places[b]];
      for (auto t = static_cast<size_t>(batch.offsets[b]); std::cmp_less(t, batch.offsets[b + 1]); ++t) {
        of_window.start.push_back(values[2 * t]);
        of_window.end.push_back(values[2 * t + 1]);
      }
    }
    if (advance) advance(std::ssize(places));
  });
  return logits;
}

std::string normalize_answer(std::string_view answer) {
  std::string text = jinja::lower(jinja::valid_utf8(answer));
  std::erase_if(text, is_punctuation);
  text = without_articles(text);
  std::string result;
  for (const std::string_view word : words_of(text)) {
    if (!result.empty()) result += ' ';
    result += word;
  }
  return result;
}

bool exact_match(std::string_view answer, std::span<const std::string> right) {
  const std::string given = normalize_answer(answer);
  return std::ranges::any_of(right, [&](const std::string& text) { return normalize_answer(text) == given; });
}

double answer_f1(std::string_view answer, std::span<const std::string> right) {
  const std::string given = normalize_answer(answer);
  double best = 0;
  for (const std::string& text : right) best = std::max(best, f1(given, normalize_answer(text)));
  return best;
}

}  // namespace octet
