// SPDX-License-Identifier: Apache-2.0
#include <filesystem>

#include <fmt/format.h>

#include "apps/octet/commands.h"
#include "apps/octet/options.h"
#include "octet/base/error.h"
#include "octet/base/progress.h"
#include "octet/ptq/quantize_model.h"
#include "octet/report/format.h"
#include "octet/train/quantized_run.h"

namespace octet::cli {
namespace {

struct LowerCommand : CommonOptions {
  std::string model, out;
};

void run(const LowerCommand& command) {
  const std::filesystem::path recipe_file = std::filesystem::path(command.model) / kTrainedRecipe;
  if (!std::filesystem::exists(recipe_file)) {
    fail<UsageError>(
        "{}: is no checkpoint of quantization-aware training ({} is not there). octet quantize takes float models.",
        command.model, kTrainedRecipe);
  }
  const Recipe recipe = Recipe::load(recipe_file.string(), {});
  const Checkpoint checkpoint = Checkpoint::open(command.model);
  std::optional<Progress> progress;
  QuantizeModelOptions options;
  options.cpu.threads = command.threads;
  options.advance = [&](int64_t, int64_t total) {
    if (!progress) progress.emplace("lowering", total, "layers");
    progress->advance();
  };
  const QuantizeReport report = quantize_model(checkpoint, recipe, command.out, options);
  progress.reset();
  int64_t quantized = 0;
  for (const LayerReport& layer : report.layers) quantized += layer.scheme ? 1 : 0;
  if (command.json) {
    print_json({{"directory", command.out},
                {"recipe", recipe.name()},
                {"quantized_layers", quantized},
                {"static_sites", report.sites.size()},
                {"bytes_before", report.bytes_before},
                {"bytes", report.bytes_after}});
    return;
  }
  fmt::print("{} linear layers → codes, as they were trained;  {} → {}\n", quantized, format_bytes(report.bytes_before),
             format_bytes(report.bytes_after));
}

}  // namespace

void add_lower(Program& program) {
  auto options = std::make_shared<LowerCommand>();
  Command command =
      program.add_subcommand("lower", "Write the INT8 model that quantization-aware training has trained");
  command.add_option("CHECKPOINT", options->model, "best/ or checkpoint-STEP/ of an octet train run with a recipe")
      .required()
      .existing_directory();
  command.add_option("--out", options->out, "The folder to make; it must not exist").required().type_name("DIR");
  options->add_to(command);
  command.footer(
      "Only quantizes: its logits are, bit for bit, those that training was judged by.\n"
      "Examples:\n"
      "  octet lower minilm-mrpc/best --out minilm-mrpc-int8\n"
      "  octet eval minilm-mrpc-int8 --task mrpc --data glue/MRPC");
  command.callback([options] { run(*options); });
}

}  // namespace octet::cli
