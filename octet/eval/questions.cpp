// SPDX-License-Identifier: Apache-2.0
#include "octet/data/questions.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/eval/continuations.h"
#include "octet/eval/perplexity.h"
#include "octet/eval/task.h"

namespace octet {
namespace {

TaskResult::Metric share_of(const std::string& name, int64_t right, size_t count) {
  return share_metric(name, static_cast<double>(right) / static_cast<double>(count), count);
}

constexpr std::string_view kSpace = " \t\n\v\f\r";

bool is_space(char c) { return kSpace.find(c) != std::string_view::npos; }

// What lm-evaluation-harness puts between a context and a choice, unless one of them has it.
std::string with_delimiter(const MultipleChoice& question, const std::string& choice) {
  const bool apart = question.context.empty() || is_space(question.context.back()) || is_space(choice.front());
  return apart ? choice : " " + choice;
}

// The first of equals.
template <class Score>
size_t best_of(const std::vector<Likelihood>& choices, Score score) {
  size_t best = 0;
  for (size_t k = 1; k < choices.size(); ++k) {
    if (score(k) > score(best)) best = k;
  }
  return best;
}

std::vector<std::vector<Likelihood>> measure(Session& session, const TaskInput& input,
                                             std::span<const Continuations> elements) {
  int64_t done = 0;
  return likelihoods(session, elements, input.threads,
                     [&](int64_t more) { input.advance(done += more, std::ssize(elements)); });
}

}  // namespace

TaskResult run_multiple_choice(Session& session, const TaskInput& input) {
  require_decoder(session);
  const Tokenizer tokenizer = Tokenizer::load(input.model);
  const std::vector<MultipleChoice> questions = read_multiple_choice(input.data, input.limit);
  std::vector<Continuations> elements;
  int64_t choices = 0, truncated = 0;
  for (const MultipleChoice& question : questions) {
    std::vector<std::string> continuations;
    for (const std::string& choice : question.choices) continuations.push_back(with_delimiter(question, choice));
    elements.push_back(tokenize_continuations(tokenizer, question.context, continuations, question.source));
    truncated += truncate_context(elements.back(), session.model().info().max_positions, question.source) ? 1 : 0;
    choices += std::ssize(question.choices);
  }
  const std::vector<std::vector<Likelihood>> all = measure(session, input, elements);
  int64_t right = 0, right_by_bytes = 0;
  std::vector<std::string> predictions;
  for (size_t i = 0; i < questions.size(); ++i) {
    const MultipleChoice& question = questions[i];
    const auto log = [&](size_t k) { return all[i][k].log; };
    const auto log_a_byte = [&](size_t k) { return log(k) / static_cast<double>(question.choices[k].size()); };
    const size_t best = best_of(all[i], log), best_by_bytes = best_of(all[i], log_a_byte);
    right += best == question.answer ? 1 : 0;
    right_by_bytes += best_by_bytes == question.answer ? 1 : 0;
    predictions.push_back(json_text(nlohmann::ordered_json(
        {{"label", question.answer}, {"predicted", best}, {"predicted_by_bytes", best_by_bytes}})));
  }
  return {.metrics = {share_of("accuracy", right, questions.size()),
                      share_of("accuracy_by_bytes", right_by_bytes, questions.size())},
          .counts = {{"choices", choices}, {"truncated_contexts", truncated}},
          .examples = std::ssize(questions),
          .notes = {},
          .predictions = std::move(predictions)};
}

TaskResult run_last_word(Session& session, const TaskInput& input) {
  require_decoder(session);
  const Tokenizer tokenizer = Tokenizer::load(input.model);
  const std::vector<Passage> passages = read_passages(input.data, input.limit);
  std::vector<Continuations> elements;
  int64_t truncated = 0, tokens = 0;
  for (const Passage& passage : passages) {
    // An empty text ends at npos, and npos + 1 is 0.
    const std::string_view text = std::string_view(passage.text).substr(0, passage.text.find_last_not_of(kSpace) + 1);
    const size_t space = text.find_last_of(kSpace);
    if (space == std::string_view::npos || text.find_first_not_of(kSpace) > space) {
      fail<FormatError>("{}: 'text' has fewer than two words; the last is to be predicted from those before it",
                        passage.source);
    }
    const std::vector<std::string> word = {std::string(text.substr(space))};
    elements.push_back(tokenize_continuations(tokenizer, text.substr(0, space), word, passage.source));
    truncated += truncate_context(elements.back(), session.model().info().max_positions, passage.source) ? 1 : 0;
    tokens += std::ssize(elements.back().continuations.front());
  }
  const std::vector<std::vector<Likelihood>> all = measure(session, input, elements);
  NllSums words;
  int64_t right = 0;
  std::vector<std::string> predictions;
  for (const std::vector<Likelihood>& word : all) {
    const auto& [log, greedy] = word.front();
    words.add(-log);
    right += greedy ? 1 : 0;
    predictions.push_back(json_text(nlohmann::ordered_json({{"log_likelihood", log}, {"right", greedy}})));
  }
  const Estimate perplexity = words.per_token();  // a word counts as one
  return {.metrics = {share_of("accuracy", right, passages.size()),
                      {.name = "perplexity", .value = perplexity.value, .standard_error = perplexity.standard_error}},
          .counts = {{"tokens", tokens}, {"truncated_contexts", truncated}},
          .examples = std::ssize(passages),
          .notes = {},
          .predictions = std::move(predictions)};
}

}  // namespace octet
