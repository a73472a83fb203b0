// SPDX-License-Identifier: Apache-2.0
#include "octet/data/squad.h"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/eval/answers.h"
#include "octet/eval/task.h"

namespace octet {
namespace {

// With the standard error of the mean (divisor n - 1).
TaskResult::Metric mean_metric(const std::string& name, std::span<const double> values) {
  const auto n = static_cast<double>(values.size());
  double mean = 0, squares = 0;
  for (const double value : values) mean += value / n;
  for (const double value : values) squares += (value - mean) * (value - mean);
  TaskResult::Metric metric{.name = name, .value = mean};
  if (values.size() > 1) metric.standard_error = std::sqrt(squares / (n - 1) / n);
  return metric;
}

}  // namespace

std::vector<TaskResult::Metric> squad_metrics(const std::vector<SquadQuestion>& questions,
                                              std::span<const std::string> answers) {
  if (answers.size() != questions.size())
    fail<ShapeError>("{} answers, {} questions", answers.size(), questions.size());
  std::vector<double> matches, f1;
  for (size_t i = 0; i < questions.size(); ++i) {
    matches.push_back(exact_match(answers[i], questions[i].answers) ? 1 : 0);
    f1.push_back(answer_f1(answers[i], questions[i].answers));
  }
  return {mean_metric("f1", f1), mean_metric("exact_match", matches)};
}

TaskResult run_squad(Session& session, const TaskInput& input) {
  const Tokenizer tokenizer = Tokenizer::load(input.model);
  const SpanOptions spans = span_options(tokenizer, session.model().info(), input.windows.window, input.overlap);
  const std::vector<SquadQuestion> questions = read_squad(input.data, input.limit);
  const std::vector<SpanFeature> features = make_span_features(questions, tokenizer, spans);
  int64_t done = 0;
  const std::vector<SpanLogits> logits =
      run_span_logits(session, features, [&](int64_t more) { input.advance(done += more, std::ssize(features)); });
  const std::vector<std::string> answers = best_answers(questions, features, logits);
  TaskResult result{.metrics = squad_metrics(questions, answers),
                    .counts = {{"windows", std::ssize(features)}, {"window", spans.length}, {"overlap", spans.stride}},
                    .examples = std::ssize(questions),
                    .notes = {}};
  for (size_t i = 0; i < questions.size(); ++i) {
    const nlohmann::ordered_json line = {{"id", questions[i].id},
                                         {"predicted", answers[i]},
                                         {"f1", answer_f1(answers[i], questions[i].answers)},
                                         {"exact_match", exact_match(answers[i], questions[i].answers)}};
    result.predictions.push_back(json_text(line));
  }
  return result;
}

}  // namespace octet
