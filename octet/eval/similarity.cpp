// SPDX-License-Identifier: Apache-2.0
#include "octet/base/error.h"
#include "octet/data/pairs.h"
#include "octet/eval/metrics.h"
#include "octet/eval/task.h"
#include "octet/models/sentence_encoder.h"

namespace octet {

TaskResult run_similarity(Session& session, const TaskInput& input) {
  SentencePairs pairs = read_sentence_pairs(input.data);
  if (input.limit && std::cmp_less(*input.limit, pairs.size())) {
    const auto kept = static_cast<size_t>(*input.limit);
    pairs.first.resize(kept);
    pairs.second.resize(kept);
    pairs.score.resize(kept);
  }
  const Tokenizer tokenizer = Tokenizer::load(input.model);
  const SentenceConfig config = read_sentence_config(input.model);
  SentenceEncoder encoder(session, tokenizer, config);

  std::vector<std::string> sentences = pairs.first;
  sentences.insert(sentences.end(), pairs.second.begin(), pairs.second.end());
  const auto total = static_cast<int64_t>(sentences.size());
  int64_t done = 0;
  const Tensor vectors = encoder.encode(sentences, [&](int64_t more) { input.advance(done += more, total); });

  const auto width = static_cast<size_t>(vectors.shape()[1]);
  const auto vector = [&](size_t i) { return vectors.as<float>().subspan(i * width, width); };
  std::vector<double> scores;
  for (size_t i = 0; i < pairs.size(); ++i) scores.push_back(cosine(vector(i), vector(i + pairs.size())));

  TaskResult result{.metrics = {}, .counts = {}, .examples = static_cast<int64_t>(pairs.size()), .notes = {}};
  result.predictions = prediction_lines(pairs.score, scores);
  if (pairs.kind == SentencePairs::Kind::kGrades) {
    result.metrics = {{"pearson", pearson(scores, pairs.score)}, {"spearman", spearman(scores, pairs.score)}};
  } else {
    result.metrics = {{"accuracy", best_accuracy(scores, pairs.score).value},
                      {"f1", best_f1(scores, pairs.score).value},
                      {"auc", roc_auc(scores, pairs.score)}};
  }
  if (!config.found)
    result.notes.emplace_back("the model's folder names no pooling (modules.json); mean pooling was used");
  if (encoder.truncated() > 0)
    result.notes.push_back(fmt::format("{} of {} sentences were truncated", encoder.truncated(), total));
  return result;
}

}  // namespace octet
