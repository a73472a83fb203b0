// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "apps/octet/commands.h"
#include "apps/octet/options.h"
#include "octet/base/json.h"
#include "octet/base/progress.h"
#include "octet/report/format.h"
#include "octet/train/trainer.h"

namespace octet::cli {
namespace {

struct TrainCommand : CommonOptions {
  std::string config, out;
  std::vector<std::string> settings;
  bool resume = false;
};

std::string to_text(const Evaluation& evaluation) {
  std::string text = fmt::format("epoch {:<6.2f} step {:<7}", evaluation.epoch, evaluation.step);
  for (const auto& [name, value] : evaluation.metrics) text += fmt::format("  {} {:.4f}", name, value);
  return text;
}

nlohmann::ordered_json to_json(const Evaluation& evaluation) {
  nlohmann::ordered_json json = {{"step", evaluation.step}, {"epoch", evaluation.epoch}};
  for (const auto& [name, value] : evaluation.metrics) json[name] = value;
  return json;
}

void print_as_json(const TrainCommand& command, const TrainReport& report) {
  nlohmann::ordered_json evaluations = nlohmann::ordered_json::array();
  for (const Evaluation& evaluation : report.evaluations) evaluations.push_back(to_json(evaluation));
  nlohmann::ordered_json json = {{"directory", command.out},
                                 {"steps", report.steps},
                                 {"stopped_early", report.stopped_early},
                                 {"parameters", report.parameters},
                                 {"tokens", report.tokens},
                                 {"seconds", report.seconds},
                                 {"activation_bytes", report.activation_bytes},
                                 {"evaluations", evaluations}};
  if (report.resumed_from >= 0) json["resumed_from"] = report.resumed_from;
  json["best"] = {{"metric", report.metric}, {"step", report.best_step}, {"value", report.best_value}};
  print_json(json);
}

void run(const TrainCommand& command) {
  const TrainConfig config = TrainConfig::load(command.config, command.settings);
  const std::unique_ptr<TrainingTask> task = make_training_task(config);
  TrainOptions options{.out = command.out, .resume = command.resume};
  options.cpu.threads = command.threads;
  std::optional<Progress> progress;
  int64_t shown = 0;
  double loss = 0;
  options.after_step = [&](const TrainingStep& step) {
    if (!progress) progress.emplace("training", step.steps, "steps");
    // A mean that forgets: one batch's loss says little.
    loss = loss == 0 ? step.loss : 0.9 * loss + 0.1 * step.loss;
    progress->say(fmt::format("loss {:.4f}  rate {:.1e}", loss, step.learning_rate));
    progress->advance(step.step - std::exchange(shown, step.step));
  };
  options.after_evaluation = [&](const Evaluation& evaluation, bool best) {
    if (progress) progress->clear();
    if (!command.json) fmt::print("{}{}\n", to_text(evaluation), best ? "  (best)" : "");
  };
  options.note = [](const std::string& note) { fmt::print(stderr, "note: {}\n", note); };
  const TrainReport report = train(config, *task, options);
  progress.reset();
  if (command.json) {
    print_as_json(command, report);
    return;
  }
  if (report.stopped_early)
    fmt::print("stopped early: no better {} in {} evaluations\n", report.metric, config.early_stopping);
  fmt::print("{} steps of {} parameters, {} tokens in {:.0f} s ({:.0f} tokens/s); activations take {}\n",
             format_count(report.steps), format_count(report.parameters), format_count(report.tokens), report.seconds,
             report.seconds > 0 ? static_cast<double>(report.tokens) / report.seconds : 0,
             format_bytes(report.activation_bytes));
  fmt::print("best: step {}, {} {:.4f} → {}\n", report.best_step, report.metric, report.best_value,
             (options.out / "best").string());
}

std::string task_list() {
  std::string text = "Tasks:\n";
  for (const auto& [name, description] : training_tasks()) text += fmt::format("  {:<16}{}\n", name, description);
  return text;
}

// Every key of a config with its default, in lines of a terminal's width.
std::string key_list() {
  constexpr size_t kWidth = 100;
  std::string text = "Keys of a config, and their defaults:\n", line = " ";
  const nlohmann::ordered_json defaults = TrainConfig().to_json();
  for (const auto& item : defaults.items()) {
    const std::string word = fmt::format(" {}={}", item.key(), json_text(item.value()));
    if (line.size() + word.size() > kWidth) {
      text += line + "\n";
      line = " ";
    }
    line += word;
  }
  return text + line + "\n";
}

}  // namespace

void add_train(Program& program) {
  auto options = std::make_shared<TrainCommand>();
  Command command = program.add_subcommand("train", "Fine-tune a float model on a task");
  command.add_option("--config", options->config, "What to train and how: a JSON file (examples/*.json)")
      .required()
      .existing_file()
      .type_name("FILE");
  command.add_option("--set", options->settings, "Change a value of the config")
      .type_name("KEY=VALUE")
      .allow_extra_args(false);
  command.add_option("--out", options->out, "The run's folder: checkpoints, log, best/").required().type_name("DIR");
  command.add_flag("--resume", options->resume, "Go on with the run in DIR from its last checkpoint, bit for bit");
  options->add_to(command);
  command.footer(
      task_list() + key_list() +
      "Examples:\n"
      "  octet train --config examples/glue_float.json --set task=mrpc --set model=minilm --set data=glue/MRPC "
      "--out minilm-mrpc\n"
      "  octet train --config examples/squad_float.json --set model=minilm --set data=squad --out minilm-squad\n"
      "  octet train --config examples/mlm.json --set model=bert --set train_data=train.txt --set eval_data=valid.txt "
      "--out bert-mine\n"
      "  octet train --config examples/lm_pretrain.json --set model=smollm2 --set train_data=train.txt \\\n"
      "      --set eval_data=valid.txt --out smollm2-mine\n"
      "  octet eval minilm-mrpc/best --task mrpc --data glue/MRPC --recipe w8a8_dynamic\n"
      "DIR/best is a Hugging Face directory. DIR/log.csv has a line for every log_steps steps; TensorBoard "
      "reads DIR.");
  command.callback([options] { run(*options); });
}

}  // namespace octet::cli
