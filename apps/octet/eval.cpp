// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "apps/octet/commands.h"
#include "apps/octet/options.h"
#include "octet/base/progress.h"
#include "octet/eval/task.h"
#include "octet/report/format.h"

namespace octet::cli {
namespace {

struct EvalOptions : ModelOptions {
  std::string task, data;
  std::optional<int64_t> limit;
};

void run(const EvalOptions& options) {
  const Task& task = find_task(options.task);
  Session session = open_session(options);
  std::optional<Progress> progress;
  int64_t seen = 0;
  const TaskResult result = task.run(session, {.model = options.model,
                                               .data = options.data,
                                               .limit = options.limit,
                                               .advance = [&](int64_t done, int64_t total) {
                                                 if (!progress) progress.emplace("evaluating", total, "inputs");
                                                 progress->advance(done - seen);
                                                 seen = done;
                                               }});
  progress.reset();
  for (const std::string& note : result.notes) warn(note);
  if (options.json) {
    nlohmann::ordered_json json = {{"task", task.name}, {"examples", result.examples}};
    for (const auto& [metric, value] : result.metrics) json[metric] = value;
    print_json(json);
    return;
  }
  fmt::print("{}, {} examples\n", task.name, format_count(result.examples));
  for (const auto& [metric, value] : result.metrics) fmt::print("  {:<10}{:.4f}\n", metric, value);
}

std::string task_list() {
  std::string text = "Tasks:\n";
  for (const Task& task : tasks()) text += fmt::format("  {:<12}{}\n", task.name, task.description);
  return text;
}

}  // namespace

void add_eval(CLI::App& app) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App* command = app.add_subcommand("eval", "Measure a model on a task");
  options->add_to(*command);
  command->add_option("--task", options->task, "What to measure")->required()->type_name("NAME");
  command->add_option("--data", options->data, "The task's data")->required()->type_name("FILE");
  command->add_option("--limit", options->limit, "Use the first N examples only")
      ->check(CLI::PositiveNumber)
      ->type_name("N");
  command->footer(task_list() +
                  "Examples:\n"
                  "  octet eval minilm --task similarity --data MRPC/dev.tsv\n"
                  "  octet eval minilm --task similarity --data MRPC/dev.tsv --recipe w8a8_dynamic --json");
  command->callback([options] { run(*options); });
}

}  // namespace octet::cli
