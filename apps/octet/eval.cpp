// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>

#include "apps/octet/column_options.h"
#include "apps/octet/commands.h"
#include "apps/octet/decoder_options.h"
#include "apps/octet/options.h"
#include "octet/base/atomic_output.h"
#include "octet/base/error.h"
#include "octet/base/progress.h"
#include "octet/eval/task.h"
#include "octet/report/format.h"

namespace octet::cli {
namespace {

struct EvalOptions : ModelOptions {
  std::string task, data, predictions;
  std::optional<int64_t> limit, overlap;
  TextOptions text;
  ColumnOptions columns;
};

void print_for_people(const Task& task, const TaskResult& result) {
  fmt::print("{}, {} {}\n", task.name, format_count(result.examples), task.examples);
  size_t width = 10;
  for (const TaskResult::Metric& metric : result.metrics) width = std::max(width, metric.name.size() + 2);
  for (const auto& [name, count] : result.counts) width = std::max(width, name.size() + 2);
  for (const TaskResult::Metric& metric : result.metrics) {
    fmt::print("  {:<{}}{:.4f}", metric.name, width, metric.value);
    if (metric.standard_error) fmt::print(" ± {:.4f}", *metric.standard_error);
    fmt::print("\n");
  }
  for (const auto& [name, count] : result.counts) fmt::print("  {:<{}}{}\n", name, width, format_count(count));
}

void print_as_json(const Task& task, const TaskResult& result) {
  nlohmann::ordered_json json = {{"task", task.name}, {"examples", result.examples}};
  for (const TaskResult::Metric& metric : result.metrics) {
    json[metric.name] = metric.value;
    if (metric.standard_error) json[metric.name + "_standard_error"] = *metric.standard_error;
  }
  for (const auto& [name, count] : result.counts) json[name] = count;
  print_json(json);
}

void write_predictions(const std::string& path, const std::vector<std::string>& lines) {
  OutputFile file(path);
  for (const std::string& line : lines) file.write(line + "\n");
  file.commit();
}

void run(const EvalOptions& options, const Command& command) {
  const Task& task = find_task(options.task);
  const WindowOptions windows = options.text.parsed();
  const bool spans = task.data == Task::Data::kSpans;
  if (const std::string given = TextOptions::first_given(command);
      task.data != Task::Data::kText && !given.empty() && !(spans && given == "--window"))
    fail<UsageError>("the task '{}' reads no text; leave {} out", task.name, given);
  if (options.overlap && !spans) fail<UsageError>("the task '{}' has no windows that overlap by --overlap", task.name);
  if (const std::string given = ColumnOptions::first_given(command); task.data != Task::Data::kTexts && !given.empty())
    fail<UsageError>("the task '{}' reads no labelled texts; leave {} out", task.name, given);
  if (!options.predictions.empty() && task.data == Task::Data::kText)
    fail<UsageError>("the task '{}' judges tokens and has no examples to tell of; leave --predictions out", task.name);
  Session session = open_session(options);
  std::optional<Progress> progress;
  int64_t seen = 0;
  const TaskResult result = task.run(session, {.model = options.model,
                                               .data = options.data,
                                               .limit = options.limit,
                                               .windows = windows,
                                               .overlap = options.overlap,
                                               .columns = options.columns.names,
                                               .threads = options.threads,
                                               .advance = [&](int64_t done, int64_t total) {
                                                 if (!progress) progress.emplace("evaluating", total, task.examples);
                                                 progress->advance(done - seen);
                                                 seen = done;
                                               }});
  progress.reset();
  for (const std::string& note : result.notes) warn(note);
  if (!options.predictions.empty()) write_predictions(options.predictions, result.predictions);
  if (options.json) {
    print_as_json(task, result);
  } else {
    print_for_people(task, result);
  }
}

std::string task_list() {
  std::string text = "Tasks:\n";
  for (const Task& task : tasks()) text += fmt::format("  {:<17}{}\n", task.name, task.description);
  return text;
}

}  // namespace

void add_eval(Program& program) {
  auto options = std::make_shared<EvalOptions>();
  Command command = program.add_subcommand("eval", "Measure a model on a task");
  options->add_to(command);
  command.add_option("--task", options->task, "What to measure").required().type_name("NAME");
  command.add_option("--data", options->data, "The task's data; of a task of GLUE also the folder of its files")
      .required()
      .type_name("FILE|DIR");
  command
      .add_option(
          "--limit", options->limit,
          "Use the first N examples only: pairs, questions, documents, or windows of a text that is one document")
      .positive()
      .type_name("N");
  options->text.add_to(command);
  command
      .add_option("--overlap", options->overlap,
                  "Tokens of a context that a window of the task squad repeats of the one before (default: a third of "
                  "--window, which is 384, or the model's longest if that is less)")
      .not_negative()
      .type_name("N");
  options->columns.add_to(command);
  command
      .add_option("--predictions", options->predictions,
                  "Write there what the model said of each example, a JSON object a line")
      .type_name("FILE");
  command.footer(task_list() +
                 "Examples:\n"
                 "  octet eval minilm --task similarity --data MRPC/dev.tsv\n"
                 "  octet eval minilm --task similarity --data MRPC/dev.tsv --recipe w8a8_dynamic --json\n"
                 "  octet eval bert-mrpc --task classification --data MRPC/dev.tsv --recipe w8a8_dynamic\n"
                 "  octet eval bert-mnli --task mnli --data MNLI --json --predictions mnli.jsonl\n"
                 "  octet eval bert-imdb --task classification --data reviews.csv --text-column review\n"
                 "  octet eval bert-squad --task squad --data dev-v1.1.json --limit 1000\n"
                 "  octet eval bert --task mlm --data wikitext.txt --window 128\n"
                 "  octet eval smollm2 --task perplexity --data wikitext.txt --window 512 --limit 64\n"
                 "  octet eval stories --task perplexity --data stories.txt --documents end-of-text --truncate 512\n"
                 "  octet eval smollm2 --task multiple_choice --data hellaswag_val.jsonl --limit 1000\n"
                 "  octet eval smollm2 --task last_word --data lambada_test.jsonl --recipe w8a8_dynamic\n"
                 "Standard errors (±) take tokens, questions and texts as independent.");
  command.callback([options, command] { run(*options, command); });
}

}  // namespace octet::cli
