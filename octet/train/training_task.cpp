// SPDX-License-Identifier: Apache-2.0
#include "octet/train/training_task.h"

#include <algorithm>

#include "octet/base/error.h"
#include "octet/base/suggest.h"
#include "octet/data/glue.h"
#include "octet/train/language_task.h"
#include "octet/train/masked_language_task.h"
#include "octet/train/squad_task.h"
#include "octet/train/text_task.h"

namespace octet {

std::vector<std::pair<std::string, std::string>> training_tasks() {
  std::vector<std::pair<std::string, std::string>> out = {
      {"classification", "labels, or with labels=1 grades, of texts or pairs (.tsv, .csv, .jsonl)"},
      {"squad", "the answer to a question, a span of its context (SQuAD 1.1's json)"},
      {"lm", "the next token of a text, by a decoder"},
      {"mlm", "masked tokens of a text, by an encoder with such a head"}};
  for (const GlueTask& task : glue_tasks()) out.emplace_back(task.name, task.description);
  return out;
}

std::unique_ptr<TrainingTask> make_training_task(const TrainConfig& config) {
  if (config.task == "lm") return make_language_task(config);
  if (config.task == "mlm") return make_masked_language_task(config);
  if (config.task == "squad") return make_squad_task(config);
  if (const GlueTask* glue = find_glue_task(config.task)) return make_text_task(config, glue);
  if (config.task == "classification") return make_text_task(config, nullptr);
  std::vector<std::string> names;
  for (const auto& [name, description] : training_tasks()) names.push_back(name);
  fail<UsageError>("unknown task '{}'.{}", config.task, did_you_mean(config.task, names));
}

bool lower_is_better(std::string_view metric) {
  return metric == "perplexity" || metric.ends_with("_perplexity") || metric == "loss" || metric == "bits_per_byte";
}

}  // namespace octet
