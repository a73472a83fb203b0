// SPDX-License-Identifier: Apache-2.0
#include "apps/octet/demo.h"

#include <fmt/format.h>

#include "apps/octet/commands.h"
#include "octet/base/error.h"
#include "octet/generate/prefill.h"

namespace octet::cli {
namespace {

namespace fs = std::filesystem;

struct DemoOptions : CommonOptions {
  std::optional<std::string> model, data;
};

// One of the program's own small models: share/octet/NAME beside the folder of the program.
fs::path own_model(const char* name) {
  const fs::path program = fs::read_symlink("/proc/self/exe");
  fs::path folder = program.parent_path().parent_path() / "share" / "octet" / name;
  if (!fs::exists(folder))
    fail("{}: the demo's model is not there. Install Octet whole, or name a model with --model DIR.", folder.string());
  return folder;
}

bool is_decoder(const fs::path& model) {
  return predicts_next_token(load_model(Checkpoint::open(model), nullptr)->info());
}

void run(const DemoOptions& options) {
  std::optional<EncoderDemo> encoder;
  std::optional<DecoderDemo> decoder;
  if (options.model && is_decoder(*options.model)) {
    if (options.data) fail<UsageError>("--data is for encoders; a decoder is shown on text that it samples itself");
    decoder.emplace(*options.model, options.threads);
  } else {
    const fs::path model = options.model ? fs::path(*options.model) : own_model("demo_encoder");
    const fs::path data = options.data ? fs::path(*options.data) : own_model("demo_encoder") / "pairs.tsv";
    encoder.emplace(model, data, options.threads);
    if (!options.json) encoder->print();
    if (!options.model) decoder.emplace(own_model("demo_decoder"), options.threads);
  }
  if (options.json) {
    nlohmann::ordered_json json;
    if (encoder) json["encoder"] = encoder->json();
    if (decoder) json["decoder"] = decoder->json();
    print_json(json);
  } else if (decoder) {
    if (encoder) fmt::print("\n\n");
    decoder->print();
  }
}

}  // namespace

DemoModels::DemoModels(const fs::path& model, int threads) : names({"fp32"}) {
  for (const std::string& name : Recipe::built_in_names()) names.push_back(name);
  for (const std::string& name : names) {
    const std::optional<Recipe> recipe = name == "fp32" ? std::nullopt : std::optional(Recipe::load(name, {}));
    sessions.push_back(std::make_unique<Session>(model, LoadOptions{.recipe = recipe, .cpu = {.threads = threads}}));
  }
}

void add_demo(Program& program) {
  auto options = std::make_shared<DemoOptions>();
  Command command = program.add_subcommand("demo", "Quantize small models by every recipe and show what that did");
  command.add_option("--model", options->model, "A float model of your own, instead of the two that come with Octet")
      .type_name("DIR");
  command
      .add_option("--data", options->data,
                  "Labelled pairs of sentences for an encoder (tsv: label, sentence1, sentence2)")
      .type_name("FILE");
  options->add_to(command);
  command.footer("Examples:\n  octet demo\n  octet demo --model minilm --json");
  command.callback([options] { run(*options); });
}

}  // namespace octet::cli
